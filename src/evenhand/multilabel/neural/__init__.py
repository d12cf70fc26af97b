"""CD-GTMLL with neural players, in torch: for what wants an encoder, as texts and images do.

`NeuralGameClassifier` is in `estimator`, the recipes of encoders are in `encoders`.
"""

"""CD-GTMLL: curiosity-driven game-theoretic multi-label learning."""

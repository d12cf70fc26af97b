"""λ-GRPO: GRPO, DAPO and Dr. GRPO in one formula, with a learnable preference for long or short responses."""

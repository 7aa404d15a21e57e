"""The training loop: set-up, models, losses, steps, validation, checkpoints and the run folder."""

"""Presets of training runs."""

from __future__ import annotations

from midframe.training.config import DataConfig, DiscriminatorConfig, LossConfig, OptimiserConfig, TrainingConfig

PRESETS: dict[str, TrainingConfig] = {
    "paper": TrainingConfig(losses=LossConfig(perceptual=1.0, reconstruction=0.4, adversarial=0.8)),
    "repository": TrainingConfig(
        network_settings={"initialisation": "glorot", "centre_tap": False},
        data=DataConfig(augmentation="repository"),
        losses=LossConfig(perceptual=1.0, reconstruction=0.2, adversarial=1.0),
        optimiser=OptimiserConfig(schedule="power_decay", clip_norm_per_tensor=5.0),
        discriminator=DiscriminatorConfig(label_smoothing=0.125, dropout=0.0),
    ),
    "guided": TrainingConfig(
        network="guided",
        data=DataConfig(augmentation="guided", synthetic=0.4, balanced_sampling=True, arbitrary_times=True),
        losses=LossConfig(
            charbonnier=1.0,
            laplacian=0.1,
            blended_photometric=0.2,
            warped_photometric=0.1,
            flow=1.0,
            flow_distillation=0.5,
        ),
        optimiser=OptimiserConfig(
            learning_rate=0.001, schedule="cosine", warmup_steps=300, weight_decay=1e-4, clip_norm=255.0
        ),
        batch_size=16,
        samples=1_000_000,
        micro_batches=2,
        coarse_iterations=(1, 1, 1, 2),
    ),
}
"""`paper`: the report's recipe. `repository`: that of its author's published code. `guided`: Midframe's own network."""

"""The registered model as it predicts: Paddle Inference and the shared preprocessing, nothing of training."""

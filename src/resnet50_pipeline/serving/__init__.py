"""The registered model as it predicts: Paddle Inference and the shared preprocessing, nothing of training."""

import warnings

# Paddle 3 tells whoever imports it that it has no ccache, which only who compiles operators of his own needs.
warnings.filterwarnings("ignore", message="No ccache found", category=UserWarning)

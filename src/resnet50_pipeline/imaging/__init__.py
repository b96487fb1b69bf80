"""The one preprocessing that training, evaluation and serving share."""

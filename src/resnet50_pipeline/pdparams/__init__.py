"""PaddleClas weights and optimizer states as files, read without executing code from them."""

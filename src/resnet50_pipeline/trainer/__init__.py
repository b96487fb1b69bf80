"""The program that the ranks run: trains, evaluates and exports what a PaddleClas YAML describes."""

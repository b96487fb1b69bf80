"""`tools/export_model.py -c FILE` of the stub."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "ppcls" / "engine"))

from engine import Engine

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("-c", "--config", required=True)
    engine = Engine(parser.parse_args().config, mode="export")
    engine.export()

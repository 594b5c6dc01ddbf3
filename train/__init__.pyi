"""The names of `train`, for type checkers; written by `python infra/stubs.py`."""

from train.checkpoint import BadCheckpoint as BadCheckpoint
from train.loader import make_loader as make_loader
from train.prediction import Prediction as Prediction
from train.prediction import Predictor as Predictor
from train.run_config import RunConfig as RunConfig
from train.system import OptimiserConfig as OptimiserConfig
from train.system import PhaseConfig as PhaseConfig
from train.system import System as System
from train.system import SystemConfig as SystemConfig
from train.systems import system_class as system_class
from train.systems import system_names as system_names

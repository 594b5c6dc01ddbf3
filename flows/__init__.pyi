"""The names of `flows`, for type checkers; written by `python infra/stubs.py`."""

from flows.config import DenseRegConfig as DenseRegConfig
from flows.config import PosmapConfig as PosmapConfig
from flows.evaluations import evaluate_here as evaluate_here
from flows.local import build_here as build_here
from flows.predict import PredictOptions as PredictOptions
from flows.predict import predict_here as predict_here
from flows.recipe import PlannedSource as PlannedSource
from flows.recipe import Recipe as Recipe
from flows.targets.family import Ground as Ground
from flows.targets.family import Layout as Layout
from flows.targets.family import TargetFamily as TargetFamily
from flows.targets.scene import Scene as Scene
from flows.training import train_here as train_here
from flows.training_card import TrainingDone as TrainingDone

DEPLOYMENT_NAME: str

FLOW_NAMES: tuple[str, ...]

"""Training: savers and checkpoints, optimizers, clusters and servers."""

from paramserve._optimizers.adadelta import AdadeltaOptimizer as AdadeltaOptimizer
from paramserve._optimizers.adagrad import AdagradDAOptimizer as AdagradDAOptimizer
from paramserve._optimizers.adagrad import AdagradOptimizer as AdagradOptimizer
from paramserve._optimizers.adagrad import ProximalAdagradOptimizer as ProximalAdagradOptimizer
from paramserve._optimizers.adam import AdamOptimizer as AdamOptimizer
from paramserve._optimizers.adam import AdamWOptimizer as AdamWOptimizer
from paramserve._optimizers.adam import LazyAdamOptimizer as LazyAdamOptimizer
from paramserve._optimizers.ftrl import FtrlOptimizer as FtrlOptimizer
from paramserve._optimizers.global_step import assert_global_step as assert_global_step
from paramserve._optimizers.global_step import create_global_step as create_global_step
from paramserve._optimizers.global_step import get_global_step as get_global_step
from paramserve._optimizers.global_step import (
    get_or_create_global_step as get_or_create_global_step,
)
from paramserve._optimizers.global_step import global_step as global_step
from paramserve._optimizers.gradient_descent import (
    GradientDescentOptimizer as GradientDescentOptimizer,
)
from paramserve._optimizers.gradient_descent import (
    ProximalGradientDescentOptimizer as ProximalGradientDescentOptimizer,
)
from paramserve._optimizers.learning_rate import cosine_decay as cosine_decay
from paramserve._optimizers.learning_rate import exponential_decay as exponential_decay
from paramserve._optimizers.learning_rate import inverse_time_decay as inverse_time_decay
from paramserve._optimizers.learning_rate import natural_exp_decay as natural_exp_decay
from paramserve._optimizers.learning_rate import piecewise_constant as piecewise_constant
from paramserve._optimizers.learning_rate import polynomial_decay as polynomial_decay
from paramserve._optimizers.lion import LionOptimizer as LionOptimizer
from paramserve._optimizers.momentum import MomentumOptimizer as MomentumOptimizer
from paramserve._optimizers.moving_average import (
    ExponentialMovingAverage as ExponentialMovingAverage,
)
from paramserve._optimizers.optimizer import Optimizer as Optimizer
from paramserve._optimizers.rmsprop import RMSPropOptimizer as RMSPropOptimizer
from paramserve._saver.importing import import_meta_graph as import_meta_graph
from paramserve._saver.meta_graph import export_meta_graph as export_meta_graph
from paramserve._saver.reading import NewCheckpointReader as NewCheckpointReader
from paramserve._saver.reading import list_variables as list_variables
from paramserve._saver.reading import load_checkpoint as load_checkpoint
from paramserve._saver.reading import load_variable as load_variable
from paramserve._saver.saver import Saver as Saver
from paramserve._saver.state import checkpoint_exists as checkpoint_exists
from paramserve._saver.state import (
    generate_checkpoint_state_proto as generate_checkpoint_state_proto,
)
from paramserve._saver.state import get_checkpoint_mtimes as get_checkpoint_mtimes
from paramserve._saver.state import get_checkpoint_state as get_checkpoint_state
from paramserve._saver.state import latest_checkpoint as latest_checkpoint
from paramserve._saver.state import update_checkpoint_state as update_checkpoint_state
from paramserve._saver.warm_start import init_from_checkpoint as init_from_checkpoint
from paramserve._session.server import Server as Server
from paramserve._summary.event_file import summary_iterator as summary_iterator
from paramserve._summary.graph_file import write_graph as write_graph
from paramserve._summary.writer import SummaryWriter as SummaryWriter
from paramserve._threads.coordinator import Coordinator as Coordinator
from paramserve._threads.looper import LooperThread as LooperThread
from paramserve._variables.device_setter import (
    GreedyLoadBalancingStrategy as GreedyLoadBalancingStrategy,
)
from paramserve._variables.device_setter import byte_size_load_fn as byte_size_load_fn
from paramserve._variables.device_setter import replica_device_setter as replica_device_setter
from paramserve_core.cluster import ClusterSpec as ClusterSpec
from paramserve_core.cluster import task_from_env as task_from_env
from paramserve_protos.v1.checkpoint_state_pb2 import CheckpointState as CheckpointState
from paramserve_protos.v1.cluster_pb2 import ClusterDef as ClusterDef
from paramserve_protos.v1.cluster_pb2 import JobDef as JobDef
from paramserve_protos.v1.saver_pb2 import SaverDef as SaverDef
from paramserve_protos.v1.server_pb2 import ServerDef as ServerDef

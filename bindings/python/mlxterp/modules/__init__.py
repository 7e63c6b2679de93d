"""Any `mlx.nn.Module` as a model that can be looked into: no description, no copy of its weights.

A run calls the module itself. While it runs, every module in it is called through a wrapper of its class that notes what
goes in and what comes out, and puts what was written in its place. MLX builds the forward lazily, so this computes
nothing; what is written makes the lazy graph anew from there on. Afterwards the module is what it was.
"""

from __future__ import annotations

from .model import ModuleModel
from .trace import ModuleTrace
from .values import SiteArray

__all__ = ["ModuleModel", "ModuleTrace", "SiteArray"]

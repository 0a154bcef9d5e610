"""A function that makes its variables when it is first called and finds them again afterwards.

Thread rule: a template is used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from paramserve._framework import creation_site
from paramserve._framework.collections import GraphKeys
from paramserve._framework.graph import get_default_graph
from paramserve._variables.scope import VariableScope
from paramserve._variables.variable import Variable
from paramserve._variables.variable_scope import variable_scope

__all__ = ["make_template"]


class Template:
    """What `make_template` answers; calling it calls the function in the template's scope.

    Args:
        name: the scope's name, made unique.
        function: the function.
        unique_name: the scope's name as it is, instead.
        create_scope_now: make the scope now, not when the template is first called.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        unique_name: str | None = None,
        create_scope_now: bool = False,
    ) -> None:
        self._name = name
        self._function = function
        self._unique_name = unique_name
        self._scope: VariableScope | None = None
        self._has_variables = False
        self._made_at = creation_site.user_line(creation_site.capture())
        if create_scope_now:
            with variable_scope(unique_name, name) as scope:
                self._scope = scope

    @property
    def name(self) -> str:
        """The name that the template was given."""
        return self._name

    @property
    def func(self) -> Callable[..., Any]:
        """The function."""
        return self._function

    @property
    def variable_scope(self) -> VariableScope | None:
        """The scope of the variables; None before it was made."""
        return self._scope

    @property
    def variables(self) -> list[Variable]:
        """The variables that are shared and saved, as far as there are any yet."""
        return self._scope.global_variables() if self._scope is not None else []

    @property
    def trainable_variables(self) -> list[Variable]:
        """The variables that optimizers change, as far as there are any yet."""
        return self._scope.trainable_variables() if self._scope is not None else []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function: the first time it makes its variables, later on it finds them.

        Raises:
            ValueError: a later call makes a trainable variable, or asks for another one than the
                first call did.
        """
        if self._scope is None:
            with variable_scope(self._unique_name, self._name) as scope:
                self._scope = scope
                return self._call(args, kwargs)
        with variable_scope(self._scope, reuse=self._has_variables):
            return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        graph = get_default_graph()
        before = len(graph.get_collection(GraphKeys.TRAINABLE_VARIABLES))
        try:
            result = self._function(*args, **kwargs)
            made = graph.get_collection(GraphKeys.TRAINABLE_VARIABLES)[before:]
            if self._has_variables and made:
                raise ValueError(
                    "Trainable variable created when calling a template after the first time, "
                    f"perhaps you used Variable when you meant get_variable: {made}"
                )
        except Exception as error:
            if self._made_at is not None:
                error.add_note(f"in the template {self._name!r} made at {self._made_at}")
            raise
        self._has_variables = True
        return result


def make_template(
    name_: str,
    func_: Callable[..., Any],
    create_scope_now_: bool = False,
    unique_name_: str | None = None,
    **kwargs: Any,
) -> Template:
    """A function that shares its variables between its calls.

        def scale(x, name):
            return x * ps.get_variable(name, [], initializer=ps.ones_initializer())

        scale_by_y = ps.make_template("scale_by_y", scale, name="y")
        z, w = scale_by_y(a), scale_by_y(b)  # both multiply by scale_by_y/y

    The function gets its variables with `get_variable`, under names that do not depend on the
    arguments of the call. A trainable `Variable` of its own is an error in a later call.

    Args:
        name_: the name of the variable scope, made unique.
        func_: the function.
        create_scope_now_: make the scope where the template is made, not where it is first called.
        unique_name_: the name of the scope as it is; two templates of one such name collide.
        **kwargs: arguments for every call of the function.

    Returns:
        A callable with properties `variable_scope`, `variables` and `trainable_variables`.

    Raises:
        ValueError: `name_` is None.
    """
    if name_ is None:
        raise ValueError("name cannot be None.")
    function = partial(func_, **kwargs) if kwargs else func_
    return Template(name_, function, unique_name_, create_scope_now_)

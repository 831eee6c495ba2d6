"""Strings that name things: ``"relu"``, ``"normal(0.01)"``, ``"mse(reduction='sum')"``."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any


@dataclass(frozen=True)
class Spec:
    """A name with arguments, all of them literals."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        arguments = [repr(a) for a in self.args] + [f"{k}={v!r}" for k, v in self.kwargs.items()]
        return f"{self.name}({', '.join(arguments)})" if arguments else self.name

    def bind(self, function: Callable[..., Any], *given: Any, **others: Any) -> inspect.BoundArguments:
        """Match the arguments to those of `function`, which also gets `given` first and `others` by name.

        Raises
        ------
        ValueError
            The arguments do not fit; the message lists the ones that would.
        """
        signature = inspect.signature(function)
        try:
            return signature.bind(*given, *self.args, **self.kwargs, **others)
        except TypeError as error:
            taken = set(list(signature.parameters)[: len(given)]) | set(others)
            free = [
                str(p.replace(annotation=p.empty)) for n, p in signature.parameters.items() if n not in taken
            ]
            raise ValueError(f"{self}: {error}; {self.name} takes ({', '.join(free)})") from None


def parse_spec(text: str, what: str = "a name such as 'relu' or 'normal(0.01)'") -> Spec:
    """Read ``name`` or ``name(literal, key=literal)``; names are case-insensitive and nothing is evaluated.

    Raises
    ------
    TypeError
        `text` is not a string; the message says that it should be `what`.
    ValueError
        `text` is not a name with literal arguments.

    Examples
    --------
    >>> parse_spec("sgd(0.1, momentum=0.9)")
    Spec(name='sgd', args=(0.1,), kwargs={'momentum': 0.9})
    """
    if not isinstance(text, str):
        raise TypeError(f"expected {what}, got {text!r}")
    return _parse(text)


@lru_cache(maxsize=256)
def _parse(text: str) -> Spec:
    # kept: a deep network names the same few things at every layer
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return Spec(node.id.lower())
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            kwargs = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords if k.arg is not None}
            if len(kwargs) == len(node.keywords):
                return Spec(node.func.id.lower(), tuple(ast.literal_eval(a) for a in node.args), kwargs)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass
    raise ValueError(
        f"cannot read {text!r}: write a name, or a name with plain values such as 'normal(0.01)'"
    )

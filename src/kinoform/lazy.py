"""Public names that are imported when they are first asked for, so that `import kinoform` stays light."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_names(
    module: str, public: Mapping[str, Mapping[str, str]]
) -> tuple[list[str], Callable[[], list[str]], Callable[[str], object]]:
    """Return `__all__`, `__dir__` and `__getattr__` of a module whose names are defined in other modules.

    `public` has groups of names, separated by spaces, by the module that defines them. Asking for another name raises
    AttributeError. Type checkers need the same names under TYPE_CHECKING in the module itself.
    """
    owners = {name: owner for group in public.values() for owner, names in group.items() for name in names.split()}

    def listed() -> list[str]:
        """List all names, also those that are not loaded yet."""
        return sorted({*vars(sys.modules[module]), *owners})

    def load(name: str) -> object:
        """Load the module that defines a name, and return what it stands for."""
        if name not in owners:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(import_module(owners[name]), name)

    return list(owners), listed, load

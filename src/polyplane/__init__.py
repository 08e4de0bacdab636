"""polyplane: the data plane of AI applications.

PostgreSQL holds the truth; vectors, caches and series follow from it or are owned by the engine
made for them; `verify` proves that they agree.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyplane.face import *
    from polyplane.face import __all__ as __all__
else:

    def __getattr__(name: str) -> Any:
        """Load the public face when its first name is asked for.

        The command line needs none of it to answer `polyplane --help` at once.
        """
        if name.startswith("_") and name != "__all__":
            raise AttributeError(name)
        face = import_module("polyplane.face")
        globals().update({public: getattr(face, public) for public in [*face.__all__, "__all__"]})
        return getattr(face, name)

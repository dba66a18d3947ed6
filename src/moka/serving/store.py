"""Models by name: loaded when somebody asks for them, and given up again, the longest unused one
first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial

from moka.errors import MokaError
from moka.serving.batcher import Deliver
from moka.serving.errors import BrokenModelError, UnknownModelError
from moka.serving.model import ModelFiles, ServedModel

Make = Callable[..., ServedModel]  # of a name, files, and `seen`: see ServedModel
Told = Callable[[str, str], None]  # "loaded" or "unloaded", a model's name
SeenOf = Callable[[str, int, float], None]  # a model's name, a batch's size, its seconds


class ModelStore:
    """The models of a server.

    Args:
        files: by name; the first is the one that requests without a name mean.
        make: loads one.
        most: how many are loaded at the same time.

    Attributes:
        told: called when one was loaded or unloaded.
        seen: called with each batch that was computed.
        deliver: how models give out results (see `Batcher`).
    """

    def __init__(self, files: Mapping[str, ModelFiles], make: Make, *, most: int) -> None:
        self.files, self._make, self._most = dict(files), make, most
        self.told: Told = lambda what, name: None
        self.seen: SeenOf = lambda name, size, seconds: None
        self.deliver: Deliver = lambda settle: settle()
        self._loaded: OrderedDict[str, ServedModel] = OrderedDict()
        self._changing = threading.Lock()  # while models are loaded and closed
        self._looking = threading.Lock()

    def refresh(self, files: Mapping[str, ModelFiles]) -> None:
        """Take other files; models that are gone, or whose files are others, are closed."""
        with self._changing:
            changed = [
                name
                for name, known in self.files.items()
                if name not in files or files[name].key != known.key
            ]
            self.files = dict(files)
            for name in changed:
                self._unload(name)

    @property
    def names(self) -> list[str]:
        return list(self.files)

    @property
    def loaded(self) -> list[ServedModel]:
        """Those that are loaded, the longest unused one first."""
        with self._looking:
            return list(self._loaded.values())

    def checked(self, name: str) -> str:
        """A model's name; the first one's for "". Raises UnknownModelError if there is none."""
        if not name and self.files:
            return next(iter(self.files))
        if name not in self.files:
            known = ", ".join(self.files) or "none"
            raise UnknownModelError(f'there is no model "{name}". There are: {known}.')
        return name

    def ready(self, name: str) -> ServedModel | None:
        """A model if it is loaded; it counts as used."""
        with self._looking:
            if name not in self._loaded:
                return None
            self._loaded.move_to_end(name)
            return self._loaded[name]

    def get(self, name: str) -> ServedModel:
        """A model; if need be it is loaded, which may take seconds, and the longest unused one is
        closed.

        Raises:
            UnknownModelError: there is none of this name.
            BrokenModelError: it cannot be loaded.
        """
        name = self.checked(name)
        with self._changing:
            found = self.ready(name)
            if found is not None:
                return found
            while len(self.loaded) >= self._most:  # before, so that memory has room for the new one
                self._unload(self.loaded[0].name)
            try:
                made = self._make(
                    name,
                    self.files[name],
                    seen=partial(self.seen, name),
                    deliver=lambda settle: self.deliver(settle),
                )
            except (MokaError, OSError) as error:
                raise BrokenModelError(f'model "{name}" cannot be loaded: {error}') from None
            with self._looking:
                self._loaded[name] = made
            self.told("loaded", name)
            return made

    def close(self) -> None:
        """Finish what waits and close all models."""
        with self._changing:
            for model in self.loaded:
                self._unload(model.name)

    def _unload(self, name: str) -> None:
        with self._looking:
            model = self._loaded.pop(name, None)
        if model is not None:
            model.close()
            self.told("unloaded", name)

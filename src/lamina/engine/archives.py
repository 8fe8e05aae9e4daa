"""Between archives and the store: save, load (C05, C11, S41)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from lamina.engine.places import naming
from lamina.engine.transfer import host_platform
from lamina.errors import Unsupported
from lamina.progress import Progress, ProgressSink, discard
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.engine.engine import Engine
    from lamina.engine.imports import ImportOptions
    from lamina.image.protocols import Image, ImageIndex, Readable
    from lamina.store.lookup import Found
    from lamina.transports.archive.read import Archive, ArchivedImage

STDIN: Final = "standard input"
Write = Callable[[bytes | bytearray | memoryview], object]


class NothingForPlatform(Unsupported):
    """An archive holds no image for the platform that was asked for.

    Attributes:
        platform: what was asked for.
    """

    def __init__(self, platform: Platform) -> None:
        super().__init__(f"the archive holds no image for platform {platform}")
        self.platform = platform


@dataclass(frozen=True, slots=True)
class Loaded:
    """One image that came out of an archive.

    Attributes:
        image: its id.
        names: the tags that point at it now; none when the archive named none.
        moved: those of them that pointed at another image before, with that image (threat 18).
    """

    image: Digest
    names: tuple[Reference, ...]
    moved: tuple[tuple[Reference, Digest], ...] = ()


class Archives:
    """Archives of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # --- save ----------------------------------------------------------------------------------------------------

    def save(
        self, names: Sequence[str], write: Write, *, platform: Platform | None = None, progress: ProgressSink = discard
    ) -> None:
        """Write images to a stream, as one tar that is an OCI layout and a `docker save`.

        Args:
            names: tags, repositories (all their tags) or ids.
            write: takes the bytes.
            platform: save this platform alone.
            progress: receives the events.

        Raises:
            ImageNotFound, AmbiguousImage, OtherPlatform: a name; nothing was written then.
        """
        from lamina.transports.archive.write import save

        save(self._chosen(names, platform), write, platform=platform or host_platform(), report=progress)

    def save_file(
        self, names: Sequence[str], path: str, *, platform: Platform | None = None, progress: ProgressSink = discard
    ) -> None:
        """The same to a file: mode 0600, complete and on disk, or not there at all."""
        from lamina.transports.archive.write import save_file

        save_file(self._chosen(names, platform), path, platform=platform or host_platform(), report=progress)

    def _chosen(
        self, names: Sequence[str], platform: Platform | None
    ) -> list[tuple[Image | ImageIndex, tuple[Reference, ...]]]:
        """What to save, each image once with all the names it was asked for by."""
        found: dict[tuple[Digest, Digest | None], list[Reference]] = {}
        for name in names:
            for one in self._matches(name, platform):
                key = one.image.id, one.target if platform is None else None
                tags = found.setdefault(key, [])
                if one.reference is not None and one.reference.tag and one.reference not in tags:
                    tags.append(one.reference)
        return [(self._content(image, target), tuple(tags)) for (image, target), tags in found.items()]

    def _matches(self, name: str, platform: Platform | None) -> list[Found]:
        from lamina.spec.reference import InvalidReference
        from lamina.store.lookup import Found

        images = self._engine.images
        try:
            reference = Reference.parse(name)
        except InvalidReference:
            return [images.get(name, platform)]
        if not reference.tag and not reference.digest:
            # A bare repository means all of its tags, as in docker save.
            entries = [
                entry for entry in self._engine.store.refs.all() if entry.reference.repository == reference.repository
            ]
            if entries:
                found = [
                    Found(self._engine.store.images.get(entry.image), entry.reference, entry.target)
                    for entry in entries
                ]
                return [images.for_platform(one, name, platform) if platform else one for one in found]
        return [images.get(name, platform)]

    def _content(self, image: Digest, target: Digest | None) -> Image | ImageIndex:
        from lamina.transports.local.source import open_image, open_manifest

        store = self._engine.store
        if target is not None and store.images.image_of(target) is None:
            return open_manifest(store, target)
        return open_image(store, image, target=target)

    # --- load ----------------------------------------------------------------------------------------------------

    def load_file(
        self, path: str, *, platform: Platform | None = None, progress: ProgressSink = discard
    ) -> list[Loaded]:
        """Bring in every image of an archive file, of any age and compression.

        Args:
            path: absolute.
            platform: take this platform of each index alone.
            progress: receives the events.

        Raises:
            NotAnArchive: it is something else.
            Integrity: it is damaged; images before the damage stay.
            NothingForPlatform: as it says.
            OSError: it cannot be read.
        """
        from lamina.transports.archive.read import Archive

        with naming(path), Archive.open(path, spool_dir=self._spool) as archive:
            return self._load(archive, platform, progress)

    def load(
        self, stream: Readable, *, platform: Platform | None = None, progress: ProgressSink = discard
    ) -> list[Loaded]:
        """The same from a stream, which is spooled to the store's disk first; errors as `load_file`."""
        from lamina.transports.archive.read import Archive

        with naming(STDIN), Archive.read(stream, spool_dir=self._spool, name=STDIN) as archive:
            return self._load(archive, platform, progress)

    @property
    def _spool(self) -> str:
        return self._engine.store.paths.ingest

    def _load(self, archive: Archive, platform: Platform | None, progress: ProgressSink) -> list[Loaded]:
        loaded = [one for each in archive.images if (one := self._load_one(each, platform, progress)) is not None]
        if not loaded and platform is not None:
            raise NothingForPlatform(platform)
        return loaded

    def _load_one(self, archived: ArchivedImage, platform: Platform | None, progress: ProgressSink) -> Loaded | None:
        from lamina.image.copy import CopyOptions, Words, copy
        from lamina.image.mutate import PlatformNotFound, select_platform
        from lamina.image.protocols import is_index
        from lamina.transports.local.sink import LocalSink

        store, content = self._engine.store, archived.content
        names = tuple(Reference(name.repository, name.tag or "latest") for name in archived.names if not name.digest)
        before = {name: entry.image for name in names if (entry := store.refs.get(name)) is not None}
        options = CopyOptions(missing="skip", words=Words("Preparing", "Already exists", "Loaded"))
        if platform is not None:
            try:
                chosen = select_platform(content, platform)
            except PlatformNotFound:
                return None
            if chosen.config.platform.score(platform) == 0:
                return None
            content = chosen
        with store.lease("load") as lease:
            sink = LocalSink(store, lease, names=names, platform=platform or host_platform())
            digest = copy(content, sink, options, report=progress).digest
            if is_index(content):
                image = self._image_of_index(names, digest, content)
            else:
                image = content.manifest.config.digest
        moved = tuple((name, old) for name, old in before.items() if old != image)
        for name, old in moved:
            progress(
                Progress(
                    "",
                    f"The image {name.familiar} already exists, renaming the old one with ID {old} to empty string",
                )
            )
        return Loaded(image, names, moved)

    def _image_of_index(self, names: Sequence[Reference], digest: Digest, content: ImageIndex) -> Digest:
        """The image that the names of an index run as here."""
        store = self._engine.store
        if names and (entry := store.refs.get(names[0])) is not None:
            return entry.image
        held = [image for child in content.index.images() if (image := store.images.image_of(child.digest))]
        return held[0] if held else digest

    # --- import --------------------------------------------------------------------------------------------------

    def import_tar(self, stream: Readable, options: ImportOptions, *, progress: ProgressSink = discard) -> Digest:
        """Make a one-layer image of a root file system's tar; see `lamina.engine.imports`."""
        from lamina.engine.imports import import_tar

        return import_tar(self._engine, stream, options, progress)

    def import_url(self, url: str, options: ImportOptions, *, progress: ProgressSink = discard) -> Digest:
        """The same of a tar on a web server.

        Raises:
            DownloadFailed: it cannot be had.
            LaminaError: as `import_tar`.
        """
        from lamina.engine.downloads import download

        with download(url, self._engine.settings.env) as stream:
            return self.import_tar(stream, options, progress=progress)

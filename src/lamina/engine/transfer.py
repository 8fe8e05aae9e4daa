"""Between registries and the store: pull, push, and having an image (C08, C09, S14, S47)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from lamina.engine.images import OtherPlatform
from lamina.errors import Invalid, LaminaError, NotFound
from lamina.progress import Progress, ProgressSink, discard
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform, of_machine
from lamina.spec.reference import Reference, Repository
from lamina.store.lookup import Found
from lamina.store.records import ImageNotFound, Name
from lamina.values import dataclass, replace

if TYPE_CHECKING:
    from lamina.engine.engine import Engine
    from lamina.image.protocols import Image, ImageIndex
    from lamina.spec.descriptor import Descriptor
    from lamina.transports.remote.client import Client

#: When a missing image is fetched: always ask the registry, only when it is not here, or never.
Policy = Literal["always", "missing", "never"]


class NotHere(NotFound):
    """There is no local image to push under this name.

    Attributes:
        reference: what was to be pushed.
    """

    def __init__(self, reference: Reference, *, repository_known: bool) -> None:
        if repository_known:
            message = f"tag does not exist: {reference.familiar}"
        else:
            message = f"An image does not exist locally with the tag: {reference.repository.familiar}"
        super().__init__(message)
        self.reference = reference


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull did.

    Attributes:
        reference: the name that now points at the image, with tag or digest.
        image: its id.
        digest: of the manifest or index, as the registry has it.
        new: the name did not point at this before.
    """

    reference: Reference
    image: Digest
    digest: Digest
    new: bool


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did.

    Attributes:
        reference: the name in the registry.
        digest: of the manifest or index that now stands under it.
        size: of that document, in bytes.
        partial_of: the index of which only this one image could be pushed, because the others are not here.
    """

    reference: Reference
    digest: Digest
    size: int
    partial_of: Digest | None = None


def host_platform() -> Platform:
    """The platform of this machine."""
    return of_machine(os.uname().machine)


class Transfer:
    """Transfers of one engine. Progress goes to the caller's sink in the words of Docker's daemon."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # --- having --------------------------------------------------------------------------------------------------

    def ensure(
        self,
        name: str,
        *,
        platform: Platform | None = None,
        policy: Policy = "missing",
        progress: ProgressSink = discard,
        cancel: threading.Event | None = None,
        missing: Callable[[Reference], None] | None = None,
    ) -> Found:
        """The image of a name, pulled when the policy says so.

        Args:
            name: what a user typed: a name, an id or the start of one.
            platform: wanted; None for this machine's, or whatever is here.
            policy: see `Policy`.
            progress: receives the pull's events.
            cancel: ends the pull when set.
            missing: called with the full name before an image that is not here is pulled.

        Raises:
            ImageNotFound, OtherPlatform: not here, and the policy forbids pulling.
            LaminaError: as `pull`.
        """
        if policy != "always":
            try:
                return self._engine.images.get(name, platform)
            except (ImageNotFound, OtherPlatform):
                if policy == "never":
                    raise
        reference = Reference.parse(name).tagged()
        if policy == "missing" and missing is not None:
            missing(reference)
        pulled = self.pull(reference, platform=platform, progress=progress, cancel=cancel)
        return Found(self._engine.store.images.get(pulled.image), pulled.reference, pulled.digest)

    # --- pull ----------------------------------------------------------------------------------------------------

    def pull(
        self,
        reference: Reference,
        *,
        platform: Platform | None = None,
        progress: ProgressSink = discard,
        cancel: threading.Event | None = None,
    ) -> Pulled:
        """Fetch an image and name it here as it is named there.

        Args:
            reference: with a tag, a digest, or both; `latest` when it has neither.
            platform: of the image to take out of an index; None for this machine's.
            progress: receives the events.
            cancel: ends the transfer when set; what arrived is used by the next attempt.

        Raises:
            ManifestNotFound, PullAccessDenied, Unreachable, ...: of the registry client.
            PlatformNotFound, OtherPlatform: it is not there for the platform.
            Integrity: bytes did not match their digests; nothing was named.
        """
        with self._client() as client:
            pulled = self._pull_one(client, reference.tagged(), platform, progress, cancel)
        progress(Progress("", _status(pulled.reference.familiar, new=pulled.new)))
        return pulled

    def pull_all(
        self,
        reference: Reference,
        *,
        platform: Platform | None = None,
        progress: ProgressSink = discard,
        cancel: threading.Event | None = None,
    ) -> list[Pulled]:
        """Fetch every tag of a repository (`pull -a`); errors as `pull`."""
        from lamina.transports.remote.failures import for_pull
        from lamina.transports.remote.tags import tags

        repository = reference.repository
        with self._client() as client:
            session = client.session(repository.host)
            try:
                found = sorted(tags(session, repository))
            except LaminaError as error:
                raise for_pull(error, repository.familiar, repository.familiar) from None
            pulled = [self._pull_one(client, Reference(repository, tag), platform, progress, cancel) for tag in found]
        progress(Progress("", _status(repository.familiar, new=any(each.new for each in pulled))))
        return pulled

    def _pull_one(
        self,
        client: Client,
        reference: Reference,
        platform: Platform | None,
        progress: ProgressSink,
        cancel: threading.Event | None,
    ) -> Pulled:
        from lamina.image.protocols import descriptor_of
        from lamina.transports.remote.source import open_remote

        content = open_remote(client, reference)
        digest = descriptor_of(content).digest
        # A pinned name is known by its digest alone; a tag beside it is a comment.
        pinned = reference.digest is not None
        shown = str(reference.digest) if pinned else reference.tag
        progress(Progress(shown, f"Pulling from {reference.repository.path}"))
        before = self._engine.store.refs.get(reference) if not pinned else self._pinned(reference)
        image = self._fetch(content, reference, platform, progress, cancel)
        progress(Progress("", f"Digest: {digest}"))
        new = before is None or (before.image, before.target) != (image, digest)
        return Pulled(replace(reference, tag="" if pinned else reference.tag), image, digest, new)

    def _pinned(self, reference: Reference) -> Name | None:
        assert reference.digest is not None
        image = self._engine.store.images.id_by_repo_digest(reference.repository, reference.digest)
        return None if image is None else Name(reference, image, reference.digest, "")

    def _fetch(
        self,
        content: Image | ImageIndex,
        reference: Reference,
        platform: Platform | None,
        progress: ProgressSink,
        cancel: threading.Event | None,
    ) -> Digest:
        from lamina.image.copy import PULL, CopyOptions, copy
        from lamina.image.mutate import select_platform
        from lamina.image.protocols import is_index
        from lamina.transports.local.sink import LocalSink

        wanted = platform or host_platform()
        chosen = select_platform(content, wanted)
        if not is_index(content) and platform is not None and chosen.config.platform.score(platform) == 0:
            raise OtherPlatform(reference.familiar, platform, chosen.config.platform)
        store, image = self._engine.store, chosen.manifest.config.digest
        with store.lease(f"pull {reference.familiar}") as lease:
            sink = LocalSink(
                store,
                lease,
                names=() if reference.digest else (reference,),
                pulled_as=reference,
                platform=wanted,
            )
            options = CopyOptions(platform=wanted if is_index(content) else None, keep_index=True, words=PULL)
            # Docker says nothing of the layers of an image that it has.
            copy(content, sink, options, report=discard if self._here(image) else progress, cancel=cancel)
        return image

    def _here(self, image: Digest) -> bool:
        store = self._engine.store
        try:
            store.images.get(image)
            return all(store.layers.find(chain_id) is not None for _, chain_id in store.images.layers(image))
        except ImageNotFound:
            return False

    # --- push ----------------------------------------------------------------------------------------------------

    def push(
        self,
        reference: Reference,
        *,
        platform: Platform | None = None,
        progress: ProgressSink = discard,
        cancel: threading.Event | None = None,
    ) -> Pushed:
        """Send the image of a local name to the registry of that name.

        Args:
            reference: a local name; `latest` when it has no tag.
            platform: push this image alone out of an index.
            progress: receives the events.
            cancel: ends the transfer when set.

        Raises:
            NotHere: no such local name.
            OtherPlatform: it is not here for the platform.
            PushAccessDenied, Unreachable, ...: of the registry client.
        """
        if reference.digest is not None:
            raise Invalid("cannot push a digest reference")
        with self._client() as client:
            return self._push_one(client, reference.tagged(), platform, progress, cancel)

    def push_all(
        self,
        reference: Reference,
        *,
        platform: Platform | None = None,
        progress: ProgressSink = discard,
        cancel: threading.Event | None = None,
    ) -> list[Pushed]:
        """Send every local tag of a repository (`push -a`); errors as `push`."""
        repository = reference.repository
        names = [name.reference for name in self._engine.store.refs.all() if name.reference.repository == repository]
        if not names:
            raise NotHere(Reference(repository), repository_known=False)
        with self._client() as client:
            return [self._push_one(client, name, platform, progress, cancel) for name in names]

    def _push_one(
        self,
        client: Client,
        reference: Reference,
        platform: Platform | None,
        progress: ProgressSink,
        cancel: threading.Event | None,
    ) -> Pushed:
        from lamina.image.copy import PUSH, CopyOptions
        from lamina.transports.remote.push import push
        from lamina.transports.remote.sink import open_sink

        store = self._engine.store
        name = store.refs.get(reference)
        if name is None:
            known = any(each.reference.repository == reference.repository for each in store.refs.all())
            raise NotHere(reference, repository_known=known)
        found = Found(store.images.get(name.image), reference, name.target)
        if platform is not None:
            found = self._engine.images.for_platform(found, reference.familiar, platform)
        with store.lease(f"push {reference.familiar}") as lease:
            store.images.hold(found.image.id, lease)
            content, partial_of = self._content(found, alone=platform is not None)
            options = CopyOptions(words=PUSH, mount_sources=self._mount_sources(found.image.id, reference))
            sent = push(content, open_sink(client, reference), options, report=progress, cancel=cancel)
            store.refs.add_digest(reference.repository, sent.digest, found.image.id)
        progress(Progress("", f"{reference.tag}: digest: {sent.digest} size: {sent.size}"))
        return Pushed(reference, sent.digest, sent.size, partial_of)

    def _content(self, found: Found, *, alone: bool) -> tuple[Image | ImageIndex, Digest | None]:
        """What a name is pushed as: the index it was pulled as when all of it is here, else the one image."""
        from lamina.transports.local.source import open_image, open_manifest

        store, target = self._engine.store, found.target
        if target is not None and store.images.image_of(target) is None:
            if not alone and store.images.complete(target):
                return open_manifest(store, target), None
            return open_image(store, found.image.id), target if not alone else None
        return open_image(store, found.image.id, target=target), None

    def _mount_sources(self, image: Digest, target: Reference) -> Callable[[Descriptor], list[Repository]]:
        """Other repositories of the target's registry that are known to have an image with layers of this one."""
        images = self._engine.store.images
        layers = {diff_id for diff_id, _ in images.layers(image)}
        found: list[Repository] = []
        for other in images.all():
            there = {name.repository for name in other.digests} - {target.repository}
            there = {repository for repository in there if repository.host == target.repository.host}
            if there and layers.intersection(diff_id for diff_id, _ in images.layers(other.id)):
                found += sorted(there - set(found))
        return lambda _blob: found[:_MOUNT_SOURCES]

    def _client(self) -> Client:
        from lamina.engine.registries import client_of

        return client_of(self._engine.settings)


#: A registry is asked at most this often whether a blob can be mounted.
_MOUNT_SOURCES = 2


def _status(familiar: str, *, new: bool) -> str:
    return f"Status: {'Downloaded newer image' if new else 'Image is up to date'} for {familiar}"

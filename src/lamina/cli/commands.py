"""The command tree as data: path, where the command lives, one-line help, other names.

Nothing here imports a noun module; `lamina --help` and misspelt commands are answered from this table alone.
The lines of help are docker's (28.2.2) wherever the command is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

PROGRAM = "lamina"


class Entry(NamedTuple):
    """One command.

    Attributes:
        path: full name without the program (`image ls`).
        target: `module:attribute`, the module relative to `lamina.cli`.
        summary: one line of help.
        also: every other full name, in the order in which help lists them.
        common: listed first in the program's help.
    """

    path: str
    target: str
    summary: str
    also: tuple[str, ...] = ()
    common: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """All full names, the canonical one first."""
        return (self.path, *self.also)

    def shown(self, name: str) -> str:
        """The name that help quotes: aliases in the command's own group (`image list`) appear as the path."""
        group, _, word = self.path.partition(" ")
        return self.path if word and name.startswith(group + " ") else name


GROUPS: dict[str, str] = {
    "builder": "Manage builds",
    "container": "Manage containers",
    "image": "Manage images",
    "network": "Manage networks",
    "serve": "Run lamina's servers",
    "system": "Manage lamina",
    "volume": "Manage volumes",
}

ENTRIES: tuple[Entry, ...] = (
    # Images (C01-C12)
    Entry("image build", "build:build", "Build an image from a Dockerfile", ("build", "builder build"), common=True),
    Entry("image history", "images:history", "Show the history of an image", ("history",)),
    Entry(
        "image import",
        "archives:import_",
        "Import the contents from a tarball to create a filesystem image",
        ("import",),
    ),
    Entry("image inspect", "images:inspect", "Display detailed information on one or more images"),
    Entry("image load", "archives:load", "Load an image from a tar archive or STDIN", ("load",)),
    Entry("image ls", "images:ls", "List images", ("image list", "images"), common=True),
    Entry("image prune", "images:prune", "Remove unused images"),
    Entry("image pull", "transfer:pull", "Download an image from a registry", ("pull",), common=True),
    Entry("image push", "transfer:push", "Upload an image to a registry", ("push",), common=True),
    Entry("image rm", "images:rm", "Remove one or more images", ("image remove", "rmi")),
    Entry(
        "image save",
        "archives:save",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        ("save",),
    ),
    Entry("image tag", "images:tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE", ("tag",)),
    # Containers (C13-C32)
    Entry(
        "container attach",
        "streams:attach",
        "Attach local standard input, output, and error streams to a running container",
        ("attach",),
    ),
    Entry("container commit", "containers:commit", "Create a new image from a container's changes", ("commit",)),
    Entry("container cp", "cp:cp", "Copy files/folders between a container and the local filesystem", ("cp",)),
    Entry("container create", "run:create", "Create a new container", ("create",)),
    Entry(
        "container diff",
        "containers:diff",
        "Inspect changes to files or directories on a container's filesystem",
        ("diff",),
    ),
    Entry("container exec", "streams:exec_", "Execute a command in a running container", ("exec",), common=True),
    Entry("container export", "cp:export", "Export a container's filesystem as a tar archive", ("export",)),
    Entry("container inspect", "containers:inspect", "Display detailed information on one or more containers"),
    Entry("container kill", "lifecycle:kill", "Kill one or more running containers", ("kill",)),
    Entry("container logs", "streams:logs", "Fetch the logs of a container", ("logs",)),
    Entry("container ls", "containers:ls", "List containers", ("container list", "container ps", "ps"), common=True),
    Entry("container pause", "lifecycle:pause", "Pause all processes within one or more containers", ("pause",)),
    Entry("container port", "containers:port", "List port mappings or a specific mapping for the container", ("port",)),
    Entry("container prune", "containers:prune", "Remove all stopped containers"),
    Entry("container rename", "lifecycle:rename", "Rename a container", ("rename",)),
    Entry("container restart", "lifecycle:restart", "Restart one or more containers", ("restart",)),
    Entry("container rm", "lifecycle:rm", "Remove one or more containers", ("container remove", "rm")),
    Entry("container run", "run:run", "Create and run a new container from an image", ("run",), common=True),
    Entry("container start", "lifecycle:start", "Start one or more stopped containers", ("start",)),
    Entry(
        "container stats",
        "containers:stats",
        "Display a live stream of container(s) resource usage statistics",
        ("stats",),
    ),
    Entry("container stop", "lifecycle:stop", "Stop one or more running containers", ("stop",)),
    Entry("container top", "containers:top", "Display the running processes of a container", ("top",)),
    Entry(
        "container unpause", "lifecycle:unpause", "Unpause all processes within one or more containers", ("unpause",)
    ),
    Entry("container update", "lifecycle:update", "Update configuration of one or more containers", ("update",)),
    Entry(
        "container wait",
        "lifecycle:wait",
        "Block until one or more containers stop, then print their exit codes",
        ("wait",),
    ),
    # Registry accounts (C33, C34)
    Entry("login", "login:login", "Authenticate to a registry", common=True),
    Entry("logout", "login:logout", "Log out from a registry", common=True),
    # System (C36-C41, C47)
    Entry("version", "version:version", "Show the lamina version information", common=True),
    Entry("system info", "system:info", "Display system-wide information", ("info",), common=True),
    Entry("system df", "system:df", "Show lamina disk usage"),
    Entry("system fsck", "system:fsck", "Check the store and report or repair damage", ("fsck",)),
    Entry("system prune", "system:prune", "Remove unused data"),
    Entry("system revive", "lifecycle:revive", "Start the containers that a reboot ended, by their restart policies"),
    Entry("inspect", "inspect:inspect", "Return low-level information on lamina objects"),
    Entry("builder prune", "builder:prune", "Remove build cache"),
    # Volumes and networks (C42, C43)
    Entry("volume create", "volumes:create", "Create a volume"),
    Entry("volume inspect", "volumes:inspect", "Display detailed information on one or more volumes"),
    Entry("volume ls", "volumes:ls", "List volumes", ("volume list",)),
    Entry("volume prune", "volumes:prune", "Remove unused local volumes"),
    Entry("volume rm", "volumes:rm", "Remove one or more volumes", ("volume remove",)),
    Entry("network inspect", "networks:inspect", "Display detailed information on one or more networks"),
    Entry("network ls", "networks:ls", "List networks", ("network list",)),
    # Servers (S46)
    Entry("serve registry", "serve:registry", "Serve an OCI registry over the distribution API"),
)

#: Docker's commands that lamina has not, and when they come; "" where they have no place in it. A group stands for all
#: that it holds.
ABSENT: dict[str, str] = {
    "buildx": "it comes with the full builder",
    "checkpoint": "it comes with full containers",
    "compose": "",
    "config": "",
    "context": "it comes with the Engine API",
    "events": "it comes with the Engine API",
    "manifest": "it comes with the full builder",
    "network connect": "it comes with full containers",
    "network create": "it comes with full containers",
    "network disconnect": "it comes with full containers",
    "network prune": "it comes with full containers",
    "network rm": "it comes with full containers",
    "node": "",
    "plugin": "it comes with the Engine API",
    "search": "it comes with the complete registry",
    "secret": "",
    "service": "",
    "stack": "",
    "swarm": "",
    "system dial-stdio": "it comes with the Engine API",
    "system events": "it comes with the Engine API",
    "trust": "it comes with trust and scanning",
    "volume update": "",
}
_SAME = {"network remove": "network rm"}


def absent(rest: Sequence[str]) -> tuple[str, str] | None:
    """The docker command that words start with, and when it comes, where lamina does not have it; else None."""
    for count in (2, 1):
        name = " ".join(rest[:count])
        when = ABSENT.get(_SAME.get(name, name))
        if len(rest) >= count and when is not None:
            return name, when
    return None


BY_NAME: dict[str, Entry] = {name: entry for entry in ENTRIES for name in entry.names}


def children(group: str) -> list[tuple[str, str]]:
    """(word, one-line help) of the commands shown on a group's help page, in order of name."""
    prefix = group + " "
    found = [(entry.path.removeprefix(prefix), entry.summary) for entry in ENTRIES if entry.path.startswith(prefix)]
    found += [
        (name.removeprefix(prefix), entry.summary)
        for entry in ENTRIES
        for name in entry.also
        if name.startswith(prefix) and not entry.path.startswith(prefix)
    ]
    return sorted(found)


def words(group: str = "") -> list[str]:
    """Every word that may follow the program (or a group), canonical or not."""
    prefix = group + " " if group else ""
    found = {name.removeprefix(prefix) for name in BY_NAME if name.startswith(prefix)}
    found = {name for name in found if " " not in name}
    return sorted(found if group else found | set(GROUPS) | {"help"})

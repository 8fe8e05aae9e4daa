"""`rmi` and `image prune`: what goes, what stays, and Docker's words for why not (S43, S44)."""

from __future__ import annotations

import pytest

from lamina.spec.digest import Digest
from lamina.spec.reference import Reference
from lamina.store.records import ImageInUse, ImageNotFound, ImageRecord
from lamina.store.store import Store
from lamina.testing.store_images import Served, config_of, pull, tar

BASE = tar(("base", b"1"))
CONTAINER = "c" * 64


def image(store: Store, *names: str, base: bool = False, **labels: str) -> ImageRecord:
    layers = [Served(BASE)] + ([] if base else [Served(tar(("own", str(labels).encode())))])
    return pull(store, layers, *names, labels=labels)


def run(store: Store, made: ImageRecord) -> None:
    with store.db.write() as connection:
        connection.execute("INSERT INTO containers (id, image_id) VALUES (?, ?)", (CONTAINER, str(made.id)))


def remove(store: Store, text: str, **options: bool) -> list[str]:
    running = options.pop("running", False)
    removed = store.removal.remove(text, running=lambda _container: running, **options)
    store.collector.collect()
    return [str(each) for each in removed]


def ids(store: Store) -> set[Digest]:
    return {each.id for each in store.images.all()}


def test_the_last_name_takes_the_image_and_its_own_layers_along(store: Store) -> None:
    keep = image(store, "keep:1", base=True)
    made = image(store, "app:1", number="1")
    digest = made.digests[0].digest
    assert remove(store, "app:1") == [
        "Untagged: app:1",
        f"Untagged: app@{digest}",
        f"Deleted: {made.id}",
        f"Deleted: {made.chain_id}",
    ]
    assert ids(store) == {keep.id}
    assert len(store.snapshots.all()) == 1
    assert store.fsck.run().findings == ()


def test_one_of_several_names_is_only_untagged(store: Store) -> None:
    made = image(store, "app:1", "app:2", number="1")
    assert remove(store, "app:1") == ["Untagged: app:1"]
    assert ids(store) == {made.id}


def test_the_last_tag_of_a_repository_takes_its_digests(store: Store) -> None:
    made = image(store, "app:1", "localhost:5000/app:1", number="1")
    assert remove(store, "app:1") == ["Untagged: app:1", f"Untagged: app@{made.digests[0].digest}"]
    assert [str(each.repository) for each in store.images.get(made.id).digests] == ["localhost:5000/app"]


def test_by_id_all_names_of_one_repository_go(store: Store) -> None:
    made = image(store, "app:1", number="1")
    removed = remove(store, made.id.short)
    assert removed[0] == "Untagged: app:1"
    assert f"Deleted: {made.id}" in removed
    assert ids(store) == set()


def test_by_id_several_names_need_force(store: Store) -> None:
    made = image(store, "app:1", "app:2", number="1")
    with pytest.raises(ImageInUse) as caught:
        remove(store, made.id.short)
    assert str(caught.value) == (
        f"conflict: unable to delete {made.id.short} (must be forced) - image is referenced in multiple repositories"
    )
    assert caught.value.forceable
    assert f"Deleted: {made.id}" in remove(store, made.id.short, force=True)


@pytest.mark.parametrize("by_id", [False, True])
def test_a_stopped_container_needs_force(store: Store, by_id: bool) -> None:
    made = image(store, "app:1", number="1")
    run(store, made)
    text = made.id.short if by_id else "app:1"
    with pytest.raises(ImageInUse) as caught:
        remove(store, text)
    if by_id:
        want = (
            f"conflict: unable to delete {made.id.short} (must be forced)"
            f" - image is being used by stopped container {CONTAINER[:12]}"
        )
    else:
        want = (
            f'conflict: unable to remove repository reference "app:1" (must force)'
            f" - container {CONTAINER[:12]} is using its referenced image {made.id.short}"
        )
    assert str(caught.value) == want
    assert store.images.get(made.id).tags  # a refusal changes nothing
    assert f"Deleted: {made.id}" in remove(store, text, force=True)


def test_a_running_container_cannot_be_forced_away(store: Store) -> None:
    made = image(store, "app:1", number="1")
    run(store, made)
    with pytest.raises(ImageInUse) as caught:
        remove(store, made.id.short, force=True, running=True)
    assert str(caught.value) == (
        f"conflict: unable to delete {made.id.short} (cannot be forced)"
        f" - image is being used by running container {CONTAINER[:12]}"
    )
    assert not caught.value.forceable
    # by name, force takes the name and leaves the image
    assert remove(store, "app:1", force=True, running=True)[0] == "Untagged: app:1"
    assert ids(store) == {made.id}


def test_an_image_with_children_stays(store: Store) -> None:
    parent = image(store, "base:1", base=True)
    child = store.images.put(config_of([Served(BASE)], child="1"), parent=parent.id, tags=[Reference.parse("child")])
    with pytest.raises(ImageInUse) as caught:
        remove(store, parent.id.short, force=True)
    assert str(caught.value) == (
        f"conflict: unable to delete {parent.id.short} (cannot be forced) - image has dependent child images"
    )
    assert remove(store, "base:1")[0] == "Untagged: base:1"  # the name goes, quietly
    assert ids(store) == {parent.id, child.id}
    assert store.images.children(parent.id) == [child.id]
    # the untagged parent goes with its last child
    removed = remove(store, "child")
    assert f"Deleted: {child.id}" in removed
    assert f"Deleted: {parent.id}" in removed
    assert ids(store) == set()


def test_parents_can_be_kept(store: Store) -> None:
    parent = image(store, base=True)
    store.images.put(config_of([Served(BASE)], child="1"), parent=parent.id, tags=[Reference.parse("child")])
    remove(store, "child", prune=False)
    assert ids(store) == {parent.id}


def test_a_name_by_digest_can_go_alone(store: Store) -> None:
    made = image(store, "app:1", number="1")
    text = f"app@{made.digests[0].digest}"
    assert remove(store, text) == [f"Untagged: {text}"]
    assert find_tags(store, made) == ["app:1"]


def find_tags(store: Store, made: ImageRecord) -> list[str]:
    return [each.familiar for each in store.images.get(made.id).tags]


def test_what_is_missing_is_said(store: Store) -> None:
    with pytest.raises(ImageNotFound, match=r"^No such image: app:latest$"):
        remove(store, "app")


def test_prune_takes_dangling_images_that_nothing_uses(store: Store) -> None:
    tagged = image(store, "app:1", number="1")
    used, free = image(store, number="2"), image(store, number="3")
    run(store, used)
    dangling = [each for each in store.images.all() if each.dangling]
    removed = store.removal.prune(dangling)
    assert {each.deleted for each in removed if each.deleted} == {str(free.id), str(free.chain_id)}
    assert ids(store) == {tagged.id, used.id}
    freed = store.collector.collect()
    assert freed.bytes > 0


def test_prune_all_takes_names_too_but_nothing_in_use(store: Store) -> None:
    used = image(store, "used:1", number="1")
    run(store, used)
    image(store, "free:1", "free:2", number="2")
    removed = [str(each) for each in store.removal.prune(store.images.all(), untag=True)]
    assert "Untagged: free:1" in removed
    assert "Untagged: free:2" in removed
    assert ids(store) == {used.id}


def test_prune_leaves_what_an_operation_holds(store: Store) -> None:
    # F9
    made = image(store, number="1")
    with store.lease("build") as lease:
        store.images.hold(made.id, lease)
        assert store.removal.prune(store.images.all()) == []
    assert store.removal.prune(store.images.all()) != []


def test_removed_while_held_its_parts_stay_until_the_end(store: Store) -> None:
    # F9: rmi during a push or save
    layers = [Served(BASE)]
    made = pull(store, layers, "app:1")
    with store.lease("push") as lease:
        store.images.hold(made.id, lease)
        remove(store, "app:1")
        assert store.blobs.read(layers[0].descriptor.digest) == layers[0].blob
        assert store.snapshots.stat(str(made.chain_id))
    store.collector.collect()
    assert store.blobs.all() == []
    assert store.snapshots.all() == []

"""kazoo against the ZooKeeper of a broker: znodes, versions, watches, transactions, sessions, access, and its lock recipe."""

import os
import sys
import threading
from pathlib import Path

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NoAuthError, NodeExistsError, NotEmptyError
from kazoo.security import make_digest_acl

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from checks import check, equal, main, name  # noqa: E402

ROOT = "/" + name("kazoo")


def client(**arguments):
    zk = KazooClient(hosts=os.environ["ZOOKEEPER"], timeout=10, **arguments)
    zk.start(timeout=20)
    return zk


def close(zk):
    zk.stop()
    zk.close()


@check
def znodes_have_data_versions_and_children():
    zk = client()
    zk.create(f"{ROOT}/a", b"1", makepath=True)
    equal(zk.set(f"{ROOT}/a", b"2", version=0).version, 1)
    equal(zk.get(f"{ROOT}/a")[0], b"2")
    for wrong, call in [
        (NodeExistsError, lambda: zk.create(f"{ROOT}/a")),
        (BadVersionError, lambda: zk.set(f"{ROOT}/a", b"3", version=7)),
        (NotEmptyError, lambda: zk.delete(ROOT)),
    ]:
        try:
            call()
        except wrong:
            continue
        raise AssertionError(f"no {wrong.__name__}")
    equal(zk.create(f"{ROOT}/s-", sequence=True)[-10:].isdigit(), True)
    equal(len(zk.get_children(ROOT)), 2)
    zk.delete(ROOT, recursive=True)
    equal(zk.exists(ROOT), None)
    close(zk)


@check
def watches_fire_and_ephemerals_end_with_their_session():
    zk, other = client(), client()
    zk.ensure_path(ROOT)
    other.create(f"{ROOT}/mine", b"", ephemeral=True)
    gone = threading.Event()
    equal(zk.exists(f"{ROOT}/mine", watch=lambda event: gone.set()) is None, False)
    close(other)
    equal(gone.wait(20), True, "the watch")
    equal(zk.exists(f"{ROOT}/mine"), None)
    close(zk)


@check
def transactions_are_all_or_nothing():
    zk = client()
    zk.ensure_path(ROOT)
    transaction = zk.transaction()
    transaction.create(f"{ROOT}/t", b"")
    transaction.check(ROOT, version=99)
    equal([type(result).__name__ for result in transaction.commit()], ["RolledBackError", "BadVersionError"])
    equal(zk.exists(f"{ROOT}/t"), None)
    close(zk)


@check
def digest_acls_keep_others_out():
    owner, other = client(auth_data=[("digest", "me:secret")]), client()
    owner.create(f"{ROOT}/own", b"x", acl=[make_digest_acl("me", "secret", all=True)], makepath=True)
    try:
        other.get(f"{ROOT}/own")
    except NoAuthError:
        pass
    else:
        raise AssertionError("others can read it")
    equal(owner.get(f"{ROOT}/own")[0], b"x")
    owner.delete(ROOT, recursive=True)
    close(owner)
    close(other)


@check
def a_lock_is_held_by_one():
    first, second = client(), client()
    lock = first.Lock(f"{ROOT}/lock", "first")
    equal(lock.acquire(timeout=10), True)
    equal(second.Lock(f"{ROOT}/lock", "second").acquire(blocking=False), False)
    lock.release()
    equal(second.Lock(f"{ROOT}/lock", "second").acquire(timeout=10), True)
    close(first)
    second.delete(ROOT, recursive=True)
    close(second)


main()

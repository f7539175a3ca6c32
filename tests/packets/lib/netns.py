"""Network namespaces: made with unique names, entered per thread, removed whatever happens.

Names begin with PREFIX and the process id, so that two runs never meet, and what a killed run left
behind can be told from what a living one uses.
"""
import contextlib
import ctypes
import os
import subprocess
import threading

PREFIX = "vpkt"
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_here = threading.local()


class CommandFailed(Exception):
    pass


def run(*argv, ns=None, stdin=None, check=True, timeout=60):
    """Runs a command, in a namespace if one is given, and returns its standard output."""
    def enter():
        if ns:
            setns(ns)
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout,
                          preexec_fn=enter if ns else None)
    if check and done.returncode:
        raise CommandFailed("%s: exit %d: %s%s" % (" ".join(argv), done.returncode, done.stdout[-2000:],
                                                   done.stderr[-2000:]))
    return done.stdout


def setns(name):
    fd = os.open("/var/run/netns/" + name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, CLONE_NEWNET) < 0:
            raise OSError(ctypes.get_errno(), "setns " + name)
    finally:
        os.close(fd)


def _home():
    if not hasattr(_here, "home"):
        _here.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _here.name = None
    return _here.home


@contextlib.contextmanager
def inside(name):
    """This thread is in the namespace while in the block; sockets made there stay there."""
    home = _home()
    outer = _here.name
    if outer != name:
        setns(name)
        _here.name = name
    try:
        yield
    finally:
        if outer != name:
            if outer:
                setns(outer)
            elif _libc.setns(home, CLONE_NEWNET) < 0:
                raise OSError(ctypes.get_errno(), "setns home")
            _here.name = outer


def sysctl(ns, **values):
    """Dots in names are written as double underscores, since interface names may hold single ones."""
    with inside(ns):
        for name, value in values.items():
            with open("/proc/sys/" + name.replace("__", "/"), "w") as f:
                f.write(str(value))


def add(name):
    run("ip", "netns", "add", name)


def delete(name):
    run("ip", "netns", "delete", name, check=False)


def names():
    return [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line]


def name_for(label):
    return "%s-%d-%s" % (PREFIX, os.getpid(), label)


def remove_of(pid):
    for name in names():
        if name.startswith("%s-%d-" % (PREFIX, pid)):
            delete(name)


def remove_stale():
    """Removes what runs that no longer live have left."""
    for name in names():
        part = name.split("-")
        if part[0] == PREFIX and len(part) > 2 and part[1].isdigit() and \
                not os.path.exists("/proc/" + part[1]):
            delete(name)

"""The program under test, $VIPMAP, in the node's namespace."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from . import netns, probe
from .manifests import THIS_NODE, service, slices
from .topology import CLUSTER_CIDR, addr

VIPMAP = os.environ.get("VIPMAP", "build/gcc/vipmap")
DETECT = ("--cluster-cidr", CLUSTER_CIDR)
MARKER = "ext250"  # announces by answering that a revision of the objects is in force


class ProgramFailed(Exception):
    pass


class Program:
    def __init__(self, world):
        self.world = world
        self.folder = tempfile.mkdtemp(prefix="vpkt-")
        self.manifests = os.path.join(self.folder, "manifests")
        os.mkdir(self.manifests)
        self.process = None
        self.flags = ()
        self.revision = 0
        self.log = ""
        self.reader = None

    def close(self):
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def file(self, name, text):
        """A file beside the manifests; its path."""
        path = os.path.join(self.folder, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def write(self, objects):
        # whoever watches the folder sees either the old objects or the new ones
        path = os.path.join(self.manifests, "objects.json")
        with open(path + ".new", "w") as f:
            json.dump({"apiVersion": "v1", "kind": "List", "items": objects}, f)
        os.rename(path + ".new", path)

    def argv(self, flags):
        # conntrack's size is the whole machine's and no business of a test
        return [VIPMAP, "--manifests", self.manifests, "--hostname-override", THIS_NODE,
                "--conntrack-max-per-core", "0"] + list(flags)

    def enter(self):
        netns.setns(self.world.name["node"])

    def run(self, *argv, timeout=30 * probe.SLOW):
        """Runs the program to its end: (exit status, stdout, stderr)."""
        done = subprocess.run([VIPMAP] + list(argv), capture_output=True, text=True, timeout=timeout,
                              preexec_fn=self.enter)
        return done.returncode, done.stdout, done.stderr

    def once(self, objects, *flags, timeout=30 * probe.SLOW):
        """One sync; what it said on standard error. Packets start with an empty conntrack table."""
        self.write(objects)
        done = subprocess.run(self.argv(flags) + ["--once"], capture_output=True, text=True, timeout=timeout,
                              preexec_fn=self.enter)
        if done.returncode:
            raise ProgramFailed("--once: exit %d: %s" % (done.returncode, done.stderr[-2000:]))
        self.flush()
        return done.stderr

    def cleanup(self):
        status, _, err = self.run("--cleanup")
        if status:
            raise ProgramFailed("--cleanup: exit %d: %s" % (status, err[-2000:]))

    def flush(self):
        netns.run("conntrack", "-F", ns=self.world.name["node"], check=False)

    def start(self, objects, *flags):
        """The daemon; returns when @objects are in force."""
        self.stop()
        self.flags = flags
        self.revision += 1
        self.write(objects + self.marker())
        self.log = ""
        self.process = subprocess.Popen(self.argv(flags), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        preexec_fn=self.enter, text=True, errors="replace")
        self.reader = threading.Thread(target=self.read_log, args=(self.process,), daemon=True)
        self.reader.start()
        self.wait()

    def read_log(self, process):
        for line in process.stderr:
            self.log += line

    def apply(self, objects):
        """New objects for the running daemon; returns when they are in force, with the seconds it took."""
        self.revision += 1
        began = time.monotonic()
        self.write(objects + self.marker())
        self.wait()
        return time.monotonic() - began

    def marker(self):
        port = 1000 + self.revision
        more = {"ports": (port,), "protos": ("TCP",)}
        return [service("zz-marker", 65000, external=(MARKER,), **more)] + slices("zz-marker", ["pod1"], **more)

    def wait(self, seconds=10):
        patience = probe.Patience(seconds)
        port = 1000 + self.revision
        left = [4, 6]
        while left:
            p = probe.Probe(self.world.name["client"], "tcp", addr(MARKER, left[0]), port, timeout=1.0)
            probe.run([p])
            if p.result.kind == "reached" and p.result.namespace == "pod1":
                left.pop(0)
                continue
            if self.process.poll() is not None:
                self.reader.join(1)
                raise ProgramFailed("exited with status %d: %s" % (self.process.returncode, self.log[-2000:]))
            if patience.over():
                raise ProgramFailed("objects are not in force after %d s (IPv%d): %s; %s" %
                                    (seconds, left[0], p.result, self.log[-2000:]))
            time.sleep(0.003)

    def stop(self, how=signal.SIGTERM, seconds=30 * probe.SLOW):
        """Ends the daemon, if there is one; its exit status."""
        if not self.process:
            return None
        p, self.process = self.process, None
        p.send_signal(how)
        try:
            status = p.wait(seconds)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            raise ProgramFailed("does not end within %d s" % seconds)
        finally:
            self.reader.join(1)
        return status

"""An API server in one of the world's namespaces (tests/support/fake_apiserver.py), and the program that follows it.

The server keeps what it was told when it is killed, and has it again when it starts, as etcd would. All requests that
it ever saw are kept: audit() holds them against the role in scripts/deploy.
"""
import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from . import netns
from .manifests import THIS_NODE
from .program import Program, ProgramFailed, VIPMAP
from .topology import addr, join

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
TOKEN = "s3cret-t0ken-of-the-proxy"
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
KINDS = {"Service": ("", "services"), "EndpointSlice": ("discovery.k8s.io", "endpointslices"),
         "ServiceCIDR": ("networking.k8s.io", "servicecidrs"), "Node": ("", "nodes")}
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


def key_of(obj):
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


class ApiServer:
    def __init__(self, world, *flags, place="remote", port=6443, token=TOKEN):
        self.world, self.place, self.port, self.token = world, place, port, token
        self.address = addr(place, 4)
        self.folder = tempfile.mkdtemp(prefix="vpkt-api-")
        self.flags = [f.replace("FOLDER", self.folder) for f in flags]
        self.certificate = "good"
        self.objects = {}
        self.seen, self.posted = [], []
        self.version = None
        self.process = None
        netns.run(os.path.join(TOP, "tests/support/certificates.sh"), self.folder)
        self.start()

    def url(self):
        return "https://" + join(self.address, self.port)

    def start(self):
        argv = [sys.executable, os.path.join(TOP, "tests/support/fake_apiserver.py"), "--address", self.address, "--port",
                str(self.port), "--cert", self.path(self.certificate + ".crt"), "--key", self.path(self.certificate + ".key"),
                "--token", self.token,
                "--bookmark-s", "1", *self.flags]
        if self.version is not None:
            with open(self.path("saved.json"), "w") as f:
                json.dump({"items": list(self.objects.values())}, f)
            argv += ["--load", self.path("saved.json"), "--rv", str(self.version)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        preexec_fn=lambda: netns.setns(self.world.name[self.place]))
        if not self.process.stdout.readline().startswith("port "):
            raise ProgramFailed("the API server does not start")

    def path(self, name):
        return os.path.join(self.folder, name)

    def tell(self, op, **more):
        self.process.stdin.write(json.dumps({"op": op, **more}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if isinstance(answer, dict) and "error" in answer:
            raise ProgramFailed("the API server refuses %s: %s" % (op, answer["error"]))
        return answer

    def publish(self, objects):
        """From now on it has these, in this order, and no others; told at once if it runs."""
        new = {key_of(o): o for o in objects}
        gone = [k for k in self.objects if k not in new]
        put = [o for k, o in new.items() if self.objects.get(k) != o]
        self.objects = new
        if not self.process:
            return
        if put:
            self.tell("put", objects=put)
        for kind, namespace, name in gone:
            self.tell("delete", kind=kind, namespace=namespace, name=name)

    def put(self, *objects):
        self.publish(list({**self.objects, **{key_of(o): o for o in objects}}.values()))

    def remove(self, *objects):
        left = {key_of(o) for o in objects}
        self.publish([o for k, o in self.objects.items() if k not in left])

    def requests(self):
        return self.seen + (self.tell("requests") if self.process else [])

    def events(self):
        return self.posted + (self.tell("events") if self.process else [])

    def kill(self):
        """Its kernel resets all connections."""
        if not self.process:
            return
        try:
            self.seen, self.posted = self.requests(), self.events()
            # others have written to etcd meanwhile, so what it had last is history when it comes back
            self.version = self.tell("state")["rv"] + 10
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def close(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kubeconfig(self, name="kubeconfig", server=None, **user):
        """A file with the server's address and, unless said otherwise, the token; its path."""
        with open(self.path(name), "w") as f:
            json.dump({"clusters": [{"name": "c", "cluster": {"server": server or self.url(),
                                                              "certificate-authority": self.path("ca.crt")}}],
                       "users": [{"name": "u", "user": user or {"token": self.token}}],
                       "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                       "current-context": "x"}, f)
        return self.path(name)

    def service_account(self, token=None):
        """A folder as kubelet mounts it into pods: links that are turned all at once. Its path."""
        at = self.path("serviceaccount")
        os.makedirs(at, exist_ok=True)
        real = "..%d" % time.monotonic_ns()
        os.mkdir(os.path.join(at, real))
        shutil.copy(self.path("ca.crt"), os.path.join(at, real, "ca.crt"))
        with open(os.path.join(at, real, "token"), "w") as f:
            f.write(token or self.token)
        turn_link(real, os.path.join(at, "..data"))
        for name in ("token", "ca.crt"):
            if not os.path.islink(os.path.join(at, name)):
                os.symlink("..data/" + name, os.path.join(at, name))
        return at

    def audit(self):
        """Requests that the role in scripts/deploy does not cover, and those with other selectors than API-1 to 5."""
        granted, bad = role(), []
        for r in self.requests():
            group, resource, verb = what_is_asked(r)
            if (group, resource, verb) == ("authentication.k8s.io", "selfsubjectreviews", "create"):
                continue  # who asks; the role system:basic-user lets everybody who is known
            selectors = tuple(r["query"].get(k) for k in ("labelSelector", "fieldSelector"))
            if (group, resource, verb) not in granted or selectors not in SELECTORS.get(resource, ()):
                bad.append("%s %s %s" % (r["method"], r["path"], r["query"]))
        return bad


SELECTORS = {
    # the second one is for servers that do not know the field
    "services": [("!service.kubernetes.io/service-proxy-name", "spec.clusterIP!=None"),
                 ("!service.kubernetes.io/service-proxy-name", None)],
    "endpointslices": [("!service.kubernetes.io/headless", None)],
    "servicecidrs": [(None, None)],
    "nodes": [(None, "metadata.name=" + THIS_NODE)],
    "events": [(None, None)],
}


def what_is_asked(request):
    """(API group, resource, verb) as the API server's authorizer sees it."""
    parts = request["path"].strip("/").split("/")
    group = "" if parts[0] == "api" else parts[1] if len(parts) > 1 else ""
    rest = parts[2 if parts[0] == "api" else 3:]
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        rest = rest[2:]
    named = len(rest) > 1
    verb = {"GET": "get" if named else "watch" if request["query"].get("watch") == "true" else "list",
            "POST": "create"}.get(request["method"], request["method"])
    return group, "/".join(rest[:1] + rest[2:]), verb


def role():
    """(group, resource, verb) that scripts/deploy/base/rbac.yaml grants."""
    with open(os.path.join(TOP, "scripts/deploy/base/rbac.yaml")) as f:
        text = f.read()
    out = set()
    for groups, resources, verbs in re.findall(
            r"- apiGroups: \[(.*)\]\n  resources: \[(.*)\]\n  verbs: \[(.*)\]\n", text):
        for g in groups.split(", "):
            out |= {(g.strip('"'), r, v) for r in resources.split(", ") for v in verbs.split(", ")}
    return out


def turn_link(target, path):
    os.symlink(target, path + ".new")
    os.rename(path + ".new", path)


class ApiProgram(Program):
    """The program with an API server in place of manifests. mounts: {path: folder}, in a mount namespace of its own."""

    def __init__(self, world, server, kubeconfig=None):
        super().__init__(world)
        self.server = server
        self.kubeconfig = kubeconfig or server.kubeconfig()
        self.verbosity = 10
        self.mounts, self.environment = {}, {}

    def write(self, objects):
        self.server.publish(objects)

    def argv(self, flags):
        """With --config among @flags all else is in that file."""
        own = [] if "--config" in flags or not self.kubeconfig else ["--kubeconfig", self.kubeconfig]
        limits = [] if "--config" in flags else ["--conntrack-max-per-core", "0", "--oom-score-adj", "0"]
        return [VIPMAP, *own, *limits, "--hostname-override", THIS_NODE, "-v", str(self.verbosity), *flags]

    def enter(self):
        super().enter()
        os.environ.update(self.environment)
        if not self.mounts:
            return
        call(_libc.unshare, CLONE_NEWNS)
        call(_libc.mount, b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        for path, folder in self.mounts.items():
            top = os.path.realpath(os.path.join("/", *path.split("/")[:3]))  # /var/run, /var/lib
            if not os.path.isdir(path):
                call(_libc.mount, b"none", top.encode(), b"tmpfs", 0, None)
                os.makedirs(path)
            call(_libc.mount, folder.encode(), path.encode(), None, MS_BIND, None)

    def launch(self, *flags):
        """Starts it as start() does, but waits for nothing."""
        self.stop()
        self.flags = flags
        self.log = ""
        self.process = subprocess.Popen(self.argv(flags), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        preexec_fn=self.enter, text=True, errors="backslashreplace")
        self.reader = threading.Thread(target=self.read_log, args=(self.process,), daemon=True)
        self.reader.start()

    def says(self, pattern):
        return bool(re.search(pattern, self.log))


def call(function, *args):
    if function(*args) < 0:
        raise OSError(ctypes.get_errno(), function.__name__)


@contextlib.contextmanager
def api(bench, *flags, least=4, **more):
    """The bench's program follows an API server while in the block; the audit comes at the end, of at least so many
    requests."""
    server = ApiServer(bench.world, *flags, **more)
    before, bench.program = bench.program, ApiProgram(bench.world, server)
    try:
        yield server
        bench.equal("exit status after SIGTERM", 0 if bench.program.process else None, bench.stop(signal.SIGTERM))
        bench.equal("requests that are not allowed", [], server.audit())
        bench.true("requests", len(server.requests()) >= least, "some, or nothing was tested")
        bench.true("the log without the token", TOKEN not in bench.program.log, "no token in it")
    finally:
        bench.program, follower = before, bench.program
        try:
            follower.close()
        finally:
            server.close()
        bench.program.cleanup()

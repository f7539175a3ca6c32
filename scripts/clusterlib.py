"""Two nodes and a control plane, each in a network namespace of its own, from a folder of binaries: what scripts/cluster
needs to make a cluster, and the README's commands to run in it. Nothing outside the namespaces is touched, but for
control groups of the nodes' names."""

import contextlib
import ctypes
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.machinery import SourceFileLoader

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
image = SourceFileLoader("vipmap_image", os.path.join(TOP, "scripts/image")).load_module()

#: What a cluster is made of, and where each usually comes from.
CONTROL = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
NODE = ("kubelet", "containerd", "containerd-shim-runc-v2", "ctr", "runc")
PLUGINS = ("ptp", "host-local", "loopback")
SOURCES = {"etcd": "etcd", "containerd": "containerd", "containerd-shim-runc-v2": "containerd", "ctr": "containerd",
           "runc": "runc", **{p: "containernetworking-plugins" for p in PLUGINS}}
NAMES = {"cp": 1, "n1": 11, "n2": 12}  # the last byte of the addresses
NODES = ("n1", "n2")
POD_RANGES = ("10.244.0.0/16", "fd00:10:244::/56")
SERVICE_RANGES = ("10.96.0.0/16", "fd00:10:96::/112")
SERVER = "https://10.99.0.1:6443"
CLONE_NEWNET = 0x40000000


def address(name, family=4):
    return "%s%d" % ("10.99.0." if family == 4 else "fd00:10:99::", NAMES[name])


def find_binaries(folder, need_proxy):
    """({name: path}, [names that are missing]): in @folder, its subfolder cni, PATH, and where Debian puts plugins."""
    places = [folder, os.path.join(folder, "cni")] if folder else []
    places += os.environ.get("PATH", "").split(":") + ["/usr/lib/cni", "/opt/cni/bin"]
    found = {}
    wanted = CONTROL + NODE + PLUGINS + (("kube-proxy", "nft") if need_proxy else ())
    for name in wanted:
        for place in places:
            path = os.path.join(place, name)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                found[name] = os.path.abspath(path)
                break
    return found, [name for name in wanted if name not in found]


def missing_text(folder, missing):
    """One fact a line: what is missing, and where it is to be had."""
    lines = ["cluster: not in %s, nor in PATH: %s" % (folder or "a folder that --binaries names", ", ".join(missing))]
    packages = sorted({SOURCES[name] for name in missing if name in SOURCES})
    rest = [name for name in missing if name not in SOURCES]
    if packages:
        lines.append("Debian has some of them: apt-get install " + " ".join(packages))
    if rest:
        lines.append("a Kubernetes release has %s: put them into the folder" % ", ".join(rest))
    return "\n".join(lines)


def procedure(text, heading):
    """The commands of one section of a README, as they stand there, without comments. A command may go on after &&."""
    section = re.search(r"^## %s\n(.*?)(?=^## |\Z)" % re.escape(heading), text, re.M | re.S)
    if not section:
        raise ValueError("no section %r" % heading)
    found = []
    for line in section.group(1).splitlines():
        match = re.match(r"\s{4,}((?:kubectl|for) .*)$", line)
        if match:
            found.append(re.sub(r"\s+# .*$", "", match.group(1)))
    return found


def run(*argv, check=True, stdin=None, timeout=120, **more):
    done = subprocess.run(argv, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
                          **more)
    if check and done.returncode:
        raise RuntimeError("%s: status %d: %s" % (" ".join(argv), done.returncode, done.stdout[-2000:]))
    return done.stdout


def until(what, get, seconds=120):
    """Waits for get() to be true; an error in it counts as not yet."""
    deadline, why = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        try:
            value = get()
            if value:
                return value
            why = "not so"
        except (RuntimeError, subprocess.SubprocessError, OSError, ValueError, KeyError) as error:
            why = str(error)
        time.sleep(0.5)
    raise RuntimeError("%s: not within %d s: %s" % (what, seconds, why))


class Keys:
    """A certificate authority, and what it has signed, by openssl."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=cluster", "-keyout", self.path("ca.key"), "-out", self.path("ca.crt"))
        run("openssl", "genrsa", "-out", self.path("sa.key"), "2048")
        run("openssl", "rsa", "-in", self.path("sa.key"), "-pubout", "-out", self.path("sa.pub"))
        self.sign("apiserver", "/CN=kube-apiserver", "IP:%s,IP:10.96.0.1,IP:127.0.0.1,DNS:kubernetes.default.svc" %
                  address("cp"))
        self.sign("admin", "/O=system:masters/CN=admin")
        self.sign("kube-controller-manager", "/CN=system:kube-controller-manager")
        self.sign("kube-scheduler", "/CN=system:kube-scheduler")
        for node in NODES:
            self.sign(node, "/O=system:nodes/CN=system:node:" + node)

    def path(self, name):
        return os.path.join(self.folder, name)

    def sign(self, name, subject, names=None):
        extensions = "extendedKeyUsage=serverAuth,clientAuth\n" + ("subjectAltName=%s\n" % names if names else "")
        with open(self.path(name + ".ext"), "w", encoding="ascii") as file:
            file.write(extensions)
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject,
            "-keyout", self.path(name + ".key"), "-out", self.path(name + ".csr"))
        run("openssl", "x509", "-req", "-in", self.path(name + ".csr"), "-CA", self.path("ca.crt"), "-CAkey",
            self.path("ca.key"), "-CAcreateserial", "-days", "2", "-extfile", self.path(name + ".ext"), "-out",
            self.path(name + ".crt"))

    def kubeconfig(self, name):
        """Of the one that @name was signed for; the file's path."""
        path = self.path(name + ".conf")
        with open(path, "w", encoding="ascii") as file:
            json.dump({
                "apiVersion": "v1", "kind": "Config", "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": SERVER, "certificate-authority": self.path("ca.crt")}}],
                "users": [{"name": "u", "user": {"client-certificate": self.path(name + ".crt"),
                                                 "client-key": self.path(name + ".key")}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}, file)
        return path


def oci_archive(path, names, files, entrypoint):
    """Writes an image of one layer, under each of @names. @files: name -> (mode, bytes)."""
    oci = "application/vnd.oci.image."
    archive = image.Archive()
    tar = image.layer(files)
    config = {"architecture": image.architecture()[1], "os": "linux", "config": {"Entrypoint": entrypoint,
                                                                                "Env": ["PATH=/usr/sbin:/usr/bin:/"]},
              "rootfs": {"type": "layers", "diff_ids": [image.digest(tar)]}}
    body = image.to_json({
        "schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
        "config": archive.add(image.to_json(config), oci + "config.v1+json"),
        "layers": [archive.add(tar, oci + "layer.v1.tar")]})
    manifests = [archive.add(body, oci + "manifest.v1+json", platform={"architecture": config["architecture"], "os": "linux"},
                             annotations={"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name})
                 for name in names]
    archive.write(path, {"schemaVersion": 2, "mediaType": oci + "index.v1+json", "manifests": manifests})


def with_libraries(binaries):
    """@binaries (name in the image -> file) and the libraries that they need."""
    files = {}
    for name, path in binaries.items():
        for where, content in [(name, path)] + (image.libraries(path) if is_dynamic(path) else []):
            with open(content, "rb") as file:
                files[where.lstrip("/")] = (0o755, file.read())
    return files


def is_dynamic(path):
    return "statically" not in subprocess.run(["ldd", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                              text=True).stdout.replace("not a dynamic executable", "statically")


class Network:
    """A switch, and one namespace for each of NAMES on it, both families."""

    def __init__(self):
        self.prefix = "vipmap-cluster-%d-" % os.getpid()

    def make(self):
        for name in ("switch",) + tuple(NAMES):
            run("ip", "netns", "add", self.name(name))
            self.ip(name, "link", "set", "lo", "up")
        self.ip("switch", "link", "add", "name", "switch0", "type", "bridge")
        self.ip("switch", "link", "set", "switch0", "up")
        for name in NAMES:
            self.ip(name, "link", "add", "eth0", "type", "veth", "peer", "name", name, "netns", self.name("switch"))
            self.ip("switch", "link", "set", name, "master", "switch0", "up")
            self.ip(name, "link", "set", "eth0", "up")
            self.ip(name, "address", "add", address(name) + "/24", "dev", "eth0")
            self.ip(name, "address", "add", address(name, 6) + "/64", "dev", "eth0", "nodad")
            if name != "cp":
                self.ip(name, "route", "add", "default", "via", address("cp"))
                self.ip(name, "-6", "route", "add", "default", "via", address("cp", 6))
            for key in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"):
                run("ip", "netns", "exec", self.name(name), "sysctl", "-qw", key)

    def name(self, name):
        return self.prefix + name

    def ip(self, name, *argv, **more):
        return run("ip", "-n", self.name(name), *argv, **more)

    def route(self, ranges, via):
        """To the pods of node @via, from everybody else."""
        for name in NAMES:
            if name == via:
                continue
            for one in ranges:
                self.ip(name, "route", "replace", one, "via", address(via, 6 if ":" in one else 4))

    def close(self):
        for name in ("switch",) + tuple(NAMES):
            subprocess.run(["ip", "netns", "del", self.name(name)], stderr=subprocess.DEVNULL)


class Machine:
    """Processes of one name of the network: all of them end with close()."""

    def __init__(self, cluster, name):
        self.cluster, self.name, self.processes = cluster, name, []
        self.folder = os.path.join(cluster.folder, name)
        os.makedirs(self.folder, exist_ok=True)
        self.netns = "/run/netns/" + cluster.network.name(name)

    def start(self, what, *argv, prefix=(), env=None):
        log = open(os.path.join(self.folder, what + ".log"), "ab")
        self.processes.append(subprocess.Popen(["nsenter", "--net=" + self.netns, *prefix, *argv], stdout=log, stderr=log,
                                               stdin=subprocess.DEVNULL, env=env, start_new_session=True))
        return self.processes[-1]

    def log_tail(self, what, lines=15):
        with contextlib.suppress(OSError), open(os.path.join(self.folder, what + ".log"), errors="replace") as file:
            return "".join(file.readlines()[-lines:])
        return ""

    def close(self):
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


NODE_SCRIPT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/netns /run/containerd
mount -t tmpfs tmpfs /var/log
mkdir -p /etc/cni/net.d /var/lib/cni /var/log/pods /var/log/containers
mount -t tmpfs tmpfs /var/lib/cni
mount --bind "$FOLDER/cni.d" /etc/cni/net.d
mount --make-rshared /
hostname "$NAME"
containerd --config "$FOLDER/containerd.toml" >"$FOLDER/containerd.log" 2>&1 &
for i in $(seq 300); do [ -S /run/containerd/containerd.sock ] && break; sleep 0.1; done
while :; do
	kubelet --config "$FOLDER/kubelet.json" --kubeconfig "$KUBECONFIG" --root-dir "$FOLDER/kubelet" \\
		--cert-dir "$FOLDER/pki" --hostname-override "$NAME" --node-ip "$ADDRESSES" >>"$FOLDER/kubelet.log" 2>&1 || :
	sleep 1
done
"""


class Node(Machine):
    """kubelet and containerd in namespaces of their own: network, mounts, processes, host name."""

    def boot(self):
        write = lambda name, text: self._write(name, text)
        os.makedirs(os.path.join(self.folder, "cni.d"), exist_ok=True)
        os.makedirs("/etc/cni/net.d", exist_ok=True)
        os.makedirs("/var/lib/cni", exist_ok=True)
        write("resolv.conf", "nameserver %s\n" % address("cp"))
        write("containerd.toml", self._containerd())
        write("kubelet.json", json.dumps(self._kubelet()))
        self._control_groups(os.makedirs)
        env = dict(os.environ, FOLDER=self.folder, NAME=self.name, KUBECONFIG=self.cluster.keys.kubeconfig(self.name),
                   ADDRESSES="%s,%s" % (address(self.name), address(self.name, 6)),
                   PATH=self.cluster.path + ":" + os.environ["PATH"])
        process = self.start("node", "bash", "-c", NODE_SCRIPT, env=env, prefix=(
            "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"))
        self.init = int(until(self.name + " starts", lambda: self._child_of(process.pid), 20))
        until(self.name + ": containerd", lambda: self.run("ctr", "version"), 60)

    @staticmethod
    def _child_of(parent):
        done = subprocess.run(["pgrep", "--parent", str(parent)], stdout=subprocess.PIPE, text=True)
        return next(iter(done.stdout.split()), None)

    def _write(self, name, text):
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
            file.write(text)

    def _control_groups(self, act):
        root = "/sys/fs/cgroup"
        if os.path.exists(os.path.join(root, "cgroup.controllers")):
            places = [root]
        else:
            places = [os.path.join(root, d) for d in os.listdir(root) if os.path.isdir(os.path.join(root, d))]
        for place in places:
            with contextlib.suppress(OSError):
                act(os.path.join(place, self.cluster.group(self.name)))

    def _containerd(self):
        plugins = os.path.dirname(self.cluster.binaries["ptp"])
        return """version = 2
root = "%(folder)s/containerd"
state = "/run/containerd/state"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "registry.k8s.io/pause:3.10"
# So that it works without CAP_SYS_RESOURCE, as in many containers.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "%(plugins)s"
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "%(runc)s"
SystemdCgroup = false
""" % {"folder": self.folder, "plugins": plugins, "runc": self.cluster.binaries["runc"]}

    def _kubelet(self):
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": {"x509": {"clientCAFile": self.cluster.keys.path("ca.crt")}, "anonymous": {"enabled": False},
                               "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "cgroupDriver": "cgroupfs", "cgroupRoot": "/" + self.cluster.group(self.name), "failCgroupV1": False,
            "failSwapOn": False, "enforceNodeAllocatable": [], "resolvConf": os.path.join(self.folder, "resolv.conf"),
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
                             "imagefs.available": "0%", "imagefs.inodesFree": "0%"},
            "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99, "protectKernelDefaults": False,
            "nodeStatusUpdateFrequency": "4s", "syncFrequency": "10s",
        }

    def run(self, *argv, **more):
        """In the node's namespaces."""
        env = dict(os.environ, PATH=self.cluster.path + ":" + os.environ["PATH"])
        return run("nsenter", "--target", str(self.init), "--mount", "--net", "--pid", "--uts", *argv, env=env, **more)

    def load(self, archive):
        self.run("ctr", "--namespace", "k8s.io", "images", "import", "--all-platforms", archive, timeout=300)

    def connect_pods(self, ranges):
        """The network plugin's configuration, once the node's ranges are known."""
        self._write("cni.d/10-pods.conflist", json.dumps({
            "cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": {
                "type": "host-local", "dataDir": "/var/lib/cni", "ranges": [[{"subnet": one}] for one in ranges],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}]}))
        self.cluster.network.route(ranges, self.name)

    def close(self):
        super().close()
        for _ in range(50):  # control groups go once their last process is gone
            self._control_groups(remove_groups)
            time.sleep(0.02)


def remove_groups(path):
    for folder, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


class Cluster:
    """A context manager: a control plane and two nodes that are Ready."""

    def __init__(self, binaries, folder, say):
        self.binaries, self.folder, self.say = binaries, folder, say
        self.path = os.path.join(folder, "bin")
        os.makedirs(self.path)
        for name, path in binaries.items():
            os.symlink(path, os.path.join(self.path, name))
        os.symlink(os.path.join(TOP, "scripts/kubectl-vipmap"), os.path.join(self.path, "kubectl-vipmap"))
        self.stack = contextlib.ExitStack()

    @staticmethod
    def group(name):
        return "vipmap-cluster-%d-%s" % (os.getpid(), name)

    def __enter__(self):
        with self.stack as stack:
            self.network = Network()
            stack.callback(self.network.close)
            self.network.make()
            self.keys = Keys(os.path.join(self.folder, "keys"))
            self.control = Machine(self, "cp")
            stack.callback(self.control.close)
            self._control_plane()
            self.nodes = {}
            for name in NODES:
                node = self.nodes[name] = Node(self, name)
                stack.callback(node.close)
                node.boot()
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self.stack.__exit__(*error)

    def _control_plane(self):
        k, start, bins = self.keys, self.control.start, self.binaries
        start("etcd", bins["etcd"], "--data-dir", os.path.join(self.folder, "etcd"), "--unsafe-no-fsync")
        start("kube-apiserver", bins["kube-apiserver"], "--etcd-servers=http://127.0.0.1:2379",
              "--service-cluster-ip-range=" + ",".join(SERVICE_RANGES), "--advertise-address=" + address("cp"),
              "--tls-cert-file=" + k.path("apiserver.crt"), "--tls-private-key-file=" + k.path("apiserver.key"),
              "--client-ca-file=" + k.path("ca.crt"), "--authorization-mode=Node,RBAC", "--allow-privileged",
              "--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + k.path("sa.pub"),
              "--service-account-signing-key-file=" + k.path("sa.key"), "--enable-admission-plugins=NodeRestriction",
              "--kubelet-client-certificate=" + k.path("admin.crt"), "--kubelet-client-key=" + k.path("admin.key"),
              "--kubelet-preferred-address-types=InternalIP", "--cert-dir=" + os.path.join(self.folder, "apiserver"))
        self.kubeconfig = k.kubeconfig("admin")
        until("the API server is ready", lambda: self.kubectl("get", "--raw", "/readyz") == "ok", 180)
        start("kube-controller-manager", bins["kube-controller-manager"], "--kubeconfig=" +
              k.kubeconfig("kube-controller-manager"), "--cluster-cidr=" + ",".join(POD_RANGES), "--allocate-node-cidrs",
              "--service-cluster-ip-range=" + ",".join(SERVICE_RANGES), "--leader-elect=false",
              "--service-account-private-key-file=" + k.path("sa.key"), "--root-ca-file=" + k.path("ca.crt"),
              "--use-service-account-credentials", "--cert-dir=" + os.path.join(self.folder, "kcm"))
        start("kube-scheduler", bins["kube-scheduler"], "--kubeconfig=" + k.kubeconfig("kube-scheduler"),
              "--leader-elect=false", "--cert-dir=" + os.path.join(self.folder, "scheduler"))

    def environment(self):
        return dict(os.environ, KUBECONFIG=self.kubeconfig, PATH=self.path + ":" + os.environ["PATH"],
                    HOME=self.folder)

    def inside(self):
        """Arguments that put a command before the control plane's network."""
        return ["nsenter", "--net=" + self.control.netns]

    def kubectl(self, *argv, **more):
        return run(*self.inside(), self.binaries["kubectl"], *argv, env=self.environment(), cwd=TOP, **more)

    def follow(self, command, timeout=300):
        """A command of the README, by a shell, as an administrator would."""
        return run(*self.inside(), "bash", "-c", "set -o pipefail; " + command, env=self.environment(), cwd=TOP,
                   timeout=timeout)

    def apply(self, *objects):
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def ready(self):
        """Both nodes have ranges for pods, and are Ready."""
        for name, node in self.nodes.items():
            ranges = until("%s has ranges" % name, lambda: json.loads(self.kubectl("get", "node", name, "-o", "json"))[
                "spec"]["podCIDRs"])
            node.connect_pods(ranges)
        self.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=120s")

    def logs(self):
        """What helps when it went wrong."""
        out = io.StringIO()
        for machine in [self.control] + list(getattr(self, "nodes", {}).values()):
            for log in sorted(os.listdir(machine.folder)):
                if log.endswith(".log"):
                    out.write("== %s %s\n%s" % (machine.name, log, machine.log_tail(log[:-4])))
        return out.getvalue()


def in_namespace(path):
    """Moves this thread into the network namespace that @path names."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "rb") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns " + path)


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)

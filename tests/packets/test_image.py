"""The image that scripts/image makes: what is in it, that it is the same each time, and that it works with nothing else."""
import atexit
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile

from lib import program
from lib.apiserver import TOP, ApiServer
from lib.case import *
from lib.program import Program

USER = 65532
NET_ADMIN = 1 << 12
MAX_PLAIN, MAX_PACKED = 21000000, 9000000  # kube-proxy's: 76 and 22 million
made = {}


def make(folder, **env):
    """Runs scripts/image; (archive, the digest it tells)."""
    path = os.path.join(folder, "vipmap.tar")
    done = subprocess.run([sys.executable, os.path.join(TOP, "scripts/image"), "--binary", program.VIPMAP, "-o", path],
                          check=True, capture_output=True, text=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", **env})
    return path, done.stdout.split()[1]


class Image:
    """An archive, read as an engine would: every blob is what its name says."""

    def __init__(self, b, path):
        self.b, self.blobs = b, {}
        with tarfile.open(path) as tar:
            self.files = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}
        self.index = json.loads(self.files["index.json"])
        b.equal("oci-layout", {"imageLayoutVersion": "1.0.0"}, json.loads(self.files["oci-layout"]))
        b.equal("images", 1, len(self.index["manifests"]))
        self.manifest = json.loads(self.blob(self.index["manifests"][0]))
        self.config = json.loads(self.blob(self.manifest["config"]))
        self.layers = [self.blob(part) for part in self.manifest["layers"]]
        b.equal("files", {"oci-layout", "index.json"} | {"blobs/" + d.replace(":", "/") for d in self.blobs}, set(self.files))

    def blob(self, part):
        content = self.files["blobs/" + part["digest"].replace(":", "/")]
        self.b.equal("the digest of a blob", part["digest"], "sha256:" + hashlib.sha256(content).hexdigest())
        self.b.equal("the size of a blob", part["size"], len(content))
        self.blobs[part["digest"]] = content
        return content

    def members(self):
        for packed in self.layers:
            with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
                for member in tar:
                    yield member, tar.extractfile(member).read() if member.isfile() else None

    def unpack(self, folder):
        """With owners and capabilities, as an engine does as root."""
        for member, content in self.members():
            path = os.path.join(folder, member.name)
            if content is None:
                os.makedirs(path, exist_ok=True)
            else:
                with open(path, "wb") as f:
                    f.write(content)
            os.chown(path, member.uid, member.gid)
            os.chmod(path, member.mode)
            for key, value in member.pax_headers.items():
                if key.startswith("SCHILY.xattr."):
                    os.setxattr(path, key[len("SCHILY.xattr."):], value.encode("latin-1"))


def image(b):
    """Made once for all cases: (Image, folder of its root)."""
    if not made:
        made["folder"] = tempfile.mkdtemp(prefix="vpkt-image-")
        atexit.register(shutil.rmtree, made["folder"], ignore_errors=True)
        os.chmod(made["folder"], 0o755)
        made["path"], made["digest"] = make(made["folder"])
        root = os.path.join(made["folder"], "root")
        os.mkdir(root)
        os.chmod(root, 0o755)
        made["image"] = Image(b, made["path"])
        made["image"].unpack(root)
        os.makedirs(os.path.join(root, "proc"))  # engines mount it
        os.chmod(os.path.join(root, "proc"), 0o755)
    return made["image"], os.path.join(made["folder"], "root")


ENTER = """
root=$1 bounding=$2
shift 2
mount -t proc proc "$root/proc"
exec setpriv --bounding-set="-all,+sys_chroot,+setuid,+setgid$bounding" \\
	chroot --userspec=%d:%d --groups= "$root" /usr/sbin/vipmap "$@"
""" % (USER, USER)


def in_root(root, bounding, *argv):
    """The words that run the image's program as its user, with no capability but @bounding within reach."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", ENTER, "sh", root, bounding] + list(argv)


@case("the same input gives the same image, another time another one", "IMAGE")
def reproducible(b):
    first, _ = image(b)
    folder = tempfile.mkdtemp(prefix="vpkt-image-")
    try:
        for name, env, same in (("again", {"LC_ALL": "C", "TZ": "Asia/Tokyo", "HOME": folder}, True),
                                ("at another time", {"SOURCE_DATE_EPOCH": "1700000001"}, False)):
            path, digest = make(folder, **env)
            b.equal("the digest " + name, same, digest == made["digest"])
            with open(path, "rb") as new, open(made["path"], "rb") as old:
                b.equal("the bytes " + name, same, new.read() == old.read())
            with open(path + ".spdx.json") as new, open(made["path"] + ".spdx.json") as old:
                b.equal("the list " + name, same, new.read() == old.read())
        b.equal("the digest that it tells", first.index["manifests"][0]["digest"], made["digest"])
    finally:
        shutil.rmtree(folder)


@case("the image has the program, its libraries and authorities, and nothing else", "IMAGE")
def contents(b):
    found, _ = image(b)
    files = {m.name: (m, content) for m, content in found.members()}
    libraries = {line.split("=> ")[-1].split()[0].lstrip("/") for line in
                 subprocess.run(["ldd", program.VIPMAP], capture_output=True, text=True, check=True).stdout.splitlines()
                 if "/" in line}
    want = libraries | {"usr/sbin/vipmap", "etc/ssl/certs/ca-certificates.crt", "etc/passwd", "etc/group", "etc/nsswitch.conf"}
    b.equal("files", want, {name for name, (_, content) in files.items() if content is not None})
    b.equal("owners, and times", [(0, 0, 1700000000)], sorted({(m.uid, m.gid, m.mtime) for m, _ in files.values()}))
    b.equal("files that others may change", [], [name for name, (m, _) in files.items() if m.mode & 0o7022])
    b.equal("capabilities", {"usr/sbin/vipmap": struct.pack("<5I", 0x02000000, NET_ADMIN, 0, 0, 0)},
            {name: value.encode("latin-1") for name, (m, _) in files.items() for value in m.pax_headers.values()})
    with open("/etc/ssl/certs/ca-certificates.crt", "rb") as f:
        b.true("all authorities are ones that this machine trusts",
               set(files["etc/ssl/certs/ca-certificates.crt"][1].split(b"-----BEGIN")) <= set(f.read().split(b"-----BEGIN")))
    b.true("many authorities", files["etc/ssl/certs/ca-certificates.crt"][1].count(b"BEGIN CERTIFICATE") > 50)
    plain, packed = sum(len(c or b"") for _, c in files.values()), sum(map(len, found.layers))
    b.true("%d and %d bytes" % (plain, packed), plain <= MAX_PLAIN and packed <= MAX_PACKED, "at most %d and %d" %
           (MAX_PLAIN, MAX_PACKED))
    b.equal("layers as they are named", found.config["rootfs"]["diff_ids"],
            ["sha256:" + hashlib.sha256(gzip.decompress(part)).hexdigest() for part in found.layers])
    b.equal("user", "%d:%d" % (USER, USER), found.config["config"]["User"])
    labels = found.config["config"]["Labels"]
    version = subprocess.run([program.VIPMAP, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    for key, value in (("title", "vipmap"), ("version", version), ("licenses", "GPL-2.0-or-later"),
                       ("created", "2023-11-14T22:13:20Z")):
        b.equal("label " + key, value, labels.get("org.opencontainers.image." + key))


@case("the list of what is in it is whole and right", "IMAGE")
def listed(b):
    found, _ = image(b)
    with open(made["path"] + ".spdx.json") as f:
        spdx = json.load(f)
    b.equal("version", "SPDX-2.3", spdx["spdxVersion"])
    b.equal("files", {"./" + m.name: hashlib.sha256(content).hexdigest() for m, content in found.members() if content is not None},
            {f["fileName"]: next(c["checksumValue"] for c in f["checksums"] if c["algorithm"] == "SHA256") for f in spdx["files"]})
    ids = [x["SPDXID"] for x in spdx["files"] + spdx["packages"]]
    b.equal("names used twice", len(ids), len(set(ids)))
    owned = [r["relatedSpdxElement"] for r in spdx["relationships"] if r["relationshipType"] == "CONTAINS"]
    b.equal("files with an owner", sorted(f["SPDXID"] for f in spdx["files"]), sorted(owned))
    b.equal("relations to nothing", [], [r for r in spdx["relationships"] if r["relatedSpdxElement"] not in ids])
    packages = {p["name"]: p for p in spdx["packages"]}
    for name in ("libcurl4", "libc6", "libnftnl11", "ca-certificates"):
        want = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", name], capture_output=True, text=True, check=True).stdout
        b.equal("version of " + name, want, packages[name]["versionInfo"])


@case("the image's program runs without any capability", "IMAGE")
def powerless(b):
    _, root = image(b)
    done = subprocess.run(in_root(root, "", "--version"), capture_output=True, text=True, timeout=30)
    b.equal("--version", (0, ""), (done.returncode, done.stderr))
    objects = json.dumps({"kind": "List", "apiVersion": "v1", "items": base() + both("web", 11, ["pod1"])})
    done = subprocess.run(in_root(root, "", "--manifests", "-", "--dry-run", "--hostname-override=node1"), input=objects,
                          capture_output=True, text=True, timeout=30)
    b.equal("--dry-run", 0, done.returncode)
    outside = subprocess.run([program.VIPMAP, "--manifests", "-", "--dry-run", "--hostname-override=node1"], input=objects,
                             capture_output=True, text=True, timeout=30)
    b.true("a table", "map service-ips" in done.stdout)
    b.equal("the same rules as outside", outside.stdout, done.stdout)


class Contained(Program):
    """The daemon in the image's root, as its user, with the one capability that the DaemonSet adds."""

    def __init__(self, b, root, *source):
        super().__init__(b.world)
        b.program.close()
        # rules of the one before are in force still
        self.root, self.source, self.revision = root, source, b.program.revision
        shutil.rmtree(os.path.join(root, "manifests"), ignore_errors=True)
        self.manifests = os.path.join(root, "manifests")
        os.mkdir(self.manifests)

    def argv(self, flags):
        return in_root(self.root, ",+net_admin", *(self.source or ("--manifests", "/manifests")), "--hostname-override", "node1",
                       "--conntrack-max-per-core", "0", *flags)


def status_of(pid):
    with open("/proc/%d/status" % pid) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


@case("the image's program does its work as its user, with one capability", "IMAGE")
def works(b):
    _, root = image(b)
    b.program = Contained(b, root)
    b.start(both("web", 11, ["pod1", "r1"], nodeport=30080))
    status = status_of(b.program.process.pid)
    b.equal("user", "\t".join([str(USER)] * 4), status["Uid"])
    b.equal("groups", "", status["Groups"].strip())
    for name, want in (("CapPrm", NET_ADMIN), ("CapEff", NET_ADMIN), ("CapInh", 0), ("CapAmb", 0)):
        b.equal(name, want, int(status[name], 16))
    b.expect_both("svc11:80", "pod1", "r1")
    probe_words = in_root(root, "", "status", "--ready")
    done = subprocess.run(probe_words, capture_output=True, text=True, timeout=30, preexec_fn=b.program.enter)
    b.equal("the readiness probe: %s%s" % (done.stdout, done.stderr), 0, done.returncode)
    b.equal("exit status", 0, b.stop(signal.SIGTERM))
    done = subprocess.run(probe_words, capture_output=True, text=True, timeout=30, preexec_fn=b.program.enter)
    b.true("the readiness probe afterwards: %d" % done.returncode, done.returncode in (1, 4))


@case("the image's program asks an API server over TLS", "IMAGE")
def asks(b):
    _, root = image(b)
    server = ApiServer(b.world)
    try:
        folder = os.path.join(root, "kube")
        os.makedirs(folder, exist_ok=True)
        shutil.copy(server.path("ca.crt"), folder)
        with open(os.path.join(folder, "config"), "w") as f:
            json.dump({"clusters": [{"name": "c", "cluster": {"server": server.url(), "certificate-authority": "/kube/ca.crt"}}],
                       "users": [{"name": "u", "user": {"token": server.token}}],
                       "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x"}, f)
        for folder, _, files in os.walk(os.path.join(root, "kube")):
            os.chmod(folder, 0o755)
            for name in files:
                os.chmod(os.path.join(folder, name), 0o644)
        b.program = Contained(b, root, "--kubeconfig", "/kube/config")
        b.program.write = server.publish
        b.start(both("web", 11, ["pod1", "r1"]))
        b.expect_both("svc11:80", "pod1", "r1")
        b.equal("exit status", 0, b.stop(signal.SIGTERM))
    finally:
        server.close()

"""scripts/cluster, as far as it goes without the programs of a cluster: what is missing is named, and what is to be made
for a cluster is sound."""
import atexit
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

from lib import topology
from lib.apiserver import TOP
from lib.case import *

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(TOP, "scripts"))
import clusterlib  # noqa: E402

PROGRAM = os.path.join(TOP, "scripts/cluster")
README = os.path.join(TOP, "scripts/deploy/README.md")


def folder():
    made = tempfile.mkdtemp(prefix="vipmap-cluster-")
    atexit.register(shutil.rmtree, made, True)
    return made


@case("scripts/cluster names what is missing, and starts nothing", "CLUSTER")
def missing(b):
    there = folder()
    for name in ("kubelet", "containerd"):
        with open(os.path.join(there, name), "w") as file:
            file.write("#!/bin/sh\n")
        os.chmod(file.name, 0o755)
    before = subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout.count("vipmap-cluster")
    done = subprocess.run([sys.executable, PROGRAM, "--binaries", there], capture_output=True, text=True,
                          env={**os.environ, "PATH": there})
    b.equal("status", 2, done.returncode)
    first = done.stderr.splitlines()[0]
    b.equal("its start", "cluster: not in %s, nor in PATH: " % there, first[:first.index("PATH: ") + 6])
    named = first.split("PATH: ")[1].split(", ")
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "ctr", "kube-proxy"):
        b.true("%s in %s" % (name, named), name in named)
    for name in ("kubelet", "containerd"):
        b.true("%s not in %s" % (name, named), name not in named)
    b.true("where etcd is had: " + done.stderr, "apt-get install" in done.stderr and "etcd" in done.stderr.splitlines()[1])
    b.equal("namespaces of clusters", before,
            subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout.count("vipmap-cluster"))


@case("the commands of the deployment's README are found, each whole", "CLUSTER")
def readme(b):
    with open(README, encoding="utf-8") as file:
        text = file.read()
    for heading, some in (("Replacing kube-proxy", ["kubectl apply -k scripts/deploy/kubeadm"]),
                          ("Going back", ["kubectl -n kube-system delete daemonset vipmap"])):
        commands = clusterlib.procedure(text, heading)
        b.true("commands of %s: %d" % (heading, len(commands)), len(commands) > 5)
        for one in some:
            b.true("%s in %s" % (one, commands), one in commands)
        for command in commands:
            status = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
            b.equal("the shell reads %s: %s" % (command, status.stderr), 0, status.returncode)
            for word in command.split():
                if word.startswith("scripts/"):
                    b.true("%s is there" % word, os.path.exists(os.path.join(TOP, word)))


@case("a cluster's keys verify, and its kubeconfigs name them", "CLUSTER")
def keys(b):
    made = clusterlib.Keys(folder())
    for name in ("apiserver", "admin", "n1", "n2", "kube-scheduler", "kube-controller-manager"):
        done = subprocess.run(["openssl", "verify", "-CAfile", made.path("ca.crt"), made.path(name + ".crt")],
                              capture_output=True, text=True)
        b.equal("%s: %s" % (name, done.stderr), 0, done.returncode)
    with open(made.kubeconfig("n2")) as file:
        user = json.load(file)["users"][0]["user"]
    subject = subprocess.run(["openssl", "x509", "-noout", "-subject", "-in", user["client-certificate"]],
                             capture_output=True, text=True).stdout
    b.true(subject, "system:nodes" in subject and "system:node:n2" in subject)
    modulus = [subprocess.run(["openssl", kind, *more, "-in", user[field]], capture_output=True, text=True).stdout
               for field, kind, more in (("client-certificate", "x509", ["-noout", "-pubkey"]),
                                         ("client-key", "pkey", ["-pubout"]))]
    b.equal("the key is the certificate's", *modulus)


@case("an archive of one layer, under several names", "CLUSTER")
def archive(b):
    path = os.path.join(folder(), "web.tar")
    clusterlib.oci_archive(path, ["a.example/web:1", "a.example/web:2"], clusterlib.with_libraries(
        {"usr/bin/true": "/usr/bin/true"}), ["/usr/bin/true"])
    with tarfile.open(path) as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}
    blob = lambda part: files["blobs/" + part["digest"].replace(":", "/")]
    manifests = json.loads(files["index.json"])["manifests"]
    b.equal("names", ["a.example/web:1", "a.example/web:2"],
            [m["annotations"]["org.opencontainers.image.ref.name"] for m in manifests])
    manifest = json.loads(blob(manifests[0]))
    b.equal("entrypoint", ["/usr/bin/true"], json.loads(blob(manifest["config"]))["config"]["Entrypoint"])
    with tarfile.open(fileobj=io.BytesIO(blob(manifest["layers"][0]))) as tar:
        names = tar.getnames()
    b.true("%s has the program and its libc" % names, "usr/bin/true" in names and any("libc.so" in n for n in names))


@case("machines of a cluster reach each other, in both families", "CLUSTER")
def network(b):
    network = clusterlib.Network()
    try:
        network.make()
        for family in (4, 6):
            for name in clusterlib.NODES:
                done = subprocess.run(["ip", "netns", "exec", network.name("cp"), os.path.join(topology.TOOLS, "connect"),
                                       "-n", "1", clusterlib.address(name, family), "9"], capture_output=True, text=True)
                b.equal("%s, IPv%d, where nobody listens" % (name, family), "1 refused", done.stdout.split("\n")[0])
        network.route(["10.244.1.0/24", "fd00:10:244:1::/64"], "n1")
        b.true("n2 reaches the pods of n1", "via 10.99.0.11" in network.ip("n2", "route", "get", "10.244.1.5"))
    finally:
        network.close()
    b.equal("what is left", "", "".join(line for line in subprocess.run(
        ["ip", "netns"], capture_output=True, text=True).stdout.splitlines() if network.prefix in line))

"""The kubectl plugin, with a kubectl that runs the real program in the node's namespace for one pod, and plays others."""
import json
import os
import shutil
import subprocess
import tempfile

from lib import program
from lib.apiserver import TOP
from lib.case import *

PLUGIN = os.path.join(TOP, "scripts/kubectl-vipmap")
KUBECTL = """#!/usr/bin/env python3
import json, os, sys, time
here = os.path.dirname(os.path.abspath(__file__))
argv = sys.argv[1:]
with open(os.path.join(here, "log"), "a") as f:
    f.write(json.dumps(argv) + "\\n")
if "exec" not in argv:
    sys.stdout.write(open(os.path.join(here, "pods.json")).read())
    sys.exit(0)
at = argv.index("--")
pod = argv[at - 3]
if pod == "vipmap-a":
    os.execvp("ip", ["ip", "netns", "exec", os.environ["NODE_NETNS"], os.environ["VIPMAP"]] + argv[at + 2:])
if pod == "vipmap-b":
    print(open(os.path.join(here, "b.json")).read())
    sys.exit(1)
sys.stderr.write("Error from server: error dialing backend\\n")
sys.exit(1)
"""


def pod(node, name, state):
    return {"metadata": {"name": name}, "spec": {"nodeName": node},
            "status": {"phase": "Running", "containerStatuses": [{"name": "vipmap", "state": state}]}}


class Cluster:
    def __init__(self, b, *pods):
        self.b, self.folder = b, tempfile.mkdtemp(prefix="vpkt-kubectl-")
        self.write("kubectl", KUBECTL)
        os.chmod(os.path.join(self.folder, "kubectl"), 0o755)
        self.write("pods.json", json.dumps({"items": list(pods)}))
        self.env = {**os.environ, "PATH": self.folder + ":" + os.environ["PATH"], "NODE_NETNS": b.world.name["node"],
                    "VIPMAP": os.path.abspath(program.VIPMAP)}

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w") as f:
            f.write(text)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        shutil.rmtree(self.folder)

    def vipmap(self, *argv):
        """(exit status, stdout, stderr)"""
        done = subprocess.run([PLUGIN] + list(argv), capture_output=True, text=True, timeout=60, env=self.env)
        return done.returncode, done.stdout, done.stderr

    def asked(self):
        with open(os.path.join(self.folder, "log")) as f:
            return [json.loads(line) for line in f]


RUNNING = {"running": {}}
OTHER = {"version": "0.1.0", "uptimeSeconds": 273600, "nodeName": "b", "ready": True, "attentionCount": 2,
         "apiServer": {"state": "degraded", "reason": "connection refused"}, "health": {"healthz": 200},
         "families": [{"family": "IPv4", "state": "ok", "servicePorts": 6}]}


@case("status of all nodes in one table", "PLUGIN")
def status(b):
    b.start(both("web", 11, ["pod1", "r1"]))
    with Cluster(b, pod("node-c", "vipmap-c", RUNNING), pod("node-b", "vipmap-b", RUNNING), pod("node-a", "vipmap-a", RUNNING),
                 pod("node-d", "vipmap-d", {"waiting": {"reason": "CrashLoopBackOff"}})) as cluster:
        cluster.write("b.json", json.dumps(OTHER))
        code, out, err = cluster.vipmap("status", "--context", "prod")
        b.equal("exit status, and complaints", (1, ""), (code, err))
        lines = [line.split() for line in out.splitlines()]
        b.equal("headers", ["NODE", "VERSION", "AGE", "READY", "API-SERVER", "IPV4", "IPV6", "SERVICE-PORTS", "ATTENTION", "HEALTHZ",
                            "MESSAGE"], lines[0])
        b.equal("nodes", ["node-a", "node-b", "node-c", "node-d"], [line[0] for line in lines[1:]])
        own = dict(zip(lines[0], lines[1]))
        version = subprocess.run([program.VIPMAP, "--version"], capture_output=True, text=True).stdout.split()[1]
        b.equal("the real one", (version, "yes", "none", "ok", "ok", "200"),
                tuple(own[k] for k in ("VERSION", "READY", "API-SERVER", "IPV4", "IPV6", "HEALTHZ")))
        b.true("its service ports: %s" % own["SERVICE-PORTS"], int(own["SERVICE-PORTS"]) >= 4)
        b.equal("one that is degraded", "node-b 0.1.0 3d4h yes degraded ok - 6 2 200 connection refused".split(), lines[2])
        b.true("one that does not answer: %s" % lines[3], out.splitlines()[3].endswith("Error from server: error dialing backend"))
        b.true("one that does not run: %s" % lines[4], out.splitlines()[4].endswith("pod vipmap-d is CrashLoopBackOff"))
        column = out.index("READY")
        b.equal("aligned columns", ["READY", "yes", "yes", "no", "no"], [line[column:].split()[0] for line in out.splitlines()])
        b.true("kubectl's own flags are passed on", all(argv[0] == "--context=prod" for argv in cluster.asked()))
        b.equal("pods asked", {"vipmap-a", "vipmap-b", "vipmap-c"}, {a[a.index("--") - 3] for a in cluster.asked() if "--" in a})
        code, out, _ = cluster.vipmap("status", "-o", "json")
        items = json.loads(out)["items"]
        b.equal("items", [("node-a", None), ("node-b", None), ("node-c", "Error from server: error dialing backend"),
                          ("node-d", "pod vipmap-d is CrashLoopBackOff")], [(i["nodeName"], i.get("error")) for i in items])
        b.equal("a status as it was", OTHER, items[1]["status"])


@case("all is well, and nobody is there", "PLUGIN")
def exits(b):
    b.start(both("web", 11, ["pod1", "r1"]))
    with Cluster(b, pod("node-a", "vipmap-a", RUNNING)) as cluster:
        code, out, err = cluster.vipmap("status", "--no-headers")
        b.equal("well: %s%s" % (out, err), (0, 1), (code, len(out.splitlines())))
        b.equal("a command that needs a node", 2, cluster.vipmap("explain", "default/web")[0])
        b.equal("another node", 4, cluster.vipmap("get", "--node", "node-z", "services")[0])
        b.equal("no argument", 2, cluster.vipmap()[0])
        b.equal("an option without a value", 2, cluster.vipmap("get", "--node")[0])
        b.equal("an unknown option", 2, cluster.vipmap("status", "-o", "yaml")[0])
        b.equal("help", 0, cluster.vipmap("--help")[0])
        cluster.write("pods.json", json.dumps({"items": []}))
        b.equal("no pods", 4, cluster.vipmap("status")[0])


@case("commands on one node get their arguments as they are", "PLUGIN")
def one(b):
    b.start(both("web", 11, ["pod1", "r1"]))
    with Cluster(b, pod("node-a", "vipmap-a", RUNNING), pod("node-d", "vipmap-d", {"waiting": {"reason": "CrashLoopBackOff"}})) as cluster:
        code, out, err = cluster.vipmap("get", "--node=node-a", "services", "-n", "default", "-o", "json")
        b.equal("exit status: " + err, 0, code)
        b.equal("what the program says itself", json.loads(b.in_node(program.VIPMAP, "get", "services", "-n", "default", "-o", "json")),
                json.loads(out))
        b.equal("words", ["exec", "-n", "kube-system", "vipmap-a", "-c", "vipmap", "--", "vipmap", "get", "services", "-n", "default",
                          "-o", "json"], cluster.asked()[-1])
        b.equal("the program's exit status", 2, cluster.vipmap("get", "--node", "node-a", "nonsense")[0])
        b.equal("status of one node is the program's own", b.in_node(program.VIPMAP, "status", "--ready"),
                cluster.vipmap("status", "--node", "node-a", "--ready")[1])
        b.equal("a pod that does not run", 4, cluster.vipmap("get", "--node", "node-d", "services")[0])
        other = pod("node-a", "vipmap-a", RUNNING)
        other["status"]["containerStatuses"][0]["name"] = "proxy"
        cluster.write("pods.json", json.dumps({"items": [other]}))
        cluster.vipmap("get", "--node", "node-a", "--pod-namespace", "proxies", "--container", "proxy", "--", "--node", "x")
        b.equal("other names, and behind --", ["exec", "-n", "proxies", "vipmap-a", "-c", "proxy", "--", "vipmap", "get", "--node", "x"],
                cluster.asked()[-1])

"""What the benches share: network namespaces that go away again, objects of any number, and figures."""

import atexit
import ctypes
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("O", os.path.join(TOP, "build/gcc"))
VIPMAP = os.environ.get("VIPMAP", os.path.join(BUILD, "vipmap"))

# Clients are in 10.180.0.0/16, endpoints from 10.192.0.0 on: all of them pods.
POD_CIDR = "10.128.0.0/9"
SERVICE_CIDR = "172.16.0.0/12"
NODE = "node-7"  # one endpoint in a thousand is here


def die(message):
    print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr)
    sys.exit(1)


def run(*command, **kwargs):
    return subprocess.run(command, check=True, **kwargs)


def setup(need_vipmap=True):
    """Root, programs, and an orderly end on signals (atexit does the rest)."""
    if os.geteuid() != 0:
        die("needs root, for network namespaces")
    # It is not the neighbours on the machine that are measured.
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError as e:
        print(f"note: no real-time priority ({e.strerror}): neighbours on the machine disturb", file=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    if need_vipmap and not os.access(VIPMAP, os.X_OK):
        die(f"{VIPMAP} is missing: run make first, or set VIPMAP")


def tool(name):
    """Builds and names one of tests/tools/*.c."""
    path = os.path.join(BUILD, "tests", name)
    run("make", "-s", "-C", TOP, f"O={BUILD}", path, stdout=subprocess.DEVNULL)
    return path


def scratch_dir():
    path = tempfile.mkdtemp(prefix="vipmap-bench-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def netns(label):
    """A namespace of our own, deleted at exit; loopback is up. Returns its name."""
    name = f"vmb-{os.getpid()}-{label}"
    run("ip", "netns", "add", name)
    atexit.register(subprocess.run, ["ip", "netns", "del", name], stderr=subprocess.DEVNULL)
    in_netns(name, "ip", "link", "set", "lo", "up")
    return name


def in_netns(name, *command, **kwargs):
    return run("ip", "netns", "exec", name, *command, **kwargs)


def unshare_network():
    """Moves this process to a network namespace of its own, which ends with it."""
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newnet = 0x40000000
    if libc.unshare(clone_newnet):
        die(f"unshare: {os.strerror(ctypes.get_errno())}")
    run("ip", "link", "set", "lo", "up")


def address(base, offset):
    a, b, c, d = (int(x) for x in base.split("."))
    n = (a << 24 | b << 16 | c << 8 | d) + offset
    return f"{n >> 24}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"


def cluster_ip(service):
    return address("172.16.0.0", 256 + service)


def endpoint_ip(number):
    return address("10.192.0.0", 1 + number)


def service_object(i, protocol="TCP", sticky=False):
    """What an API server would send, without managedFields."""
    spec = {
        "clusterIP": cluster_ip(i), "clusterIPs": [cluster_ip(i)],
        "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "ports": [{"name": "http", "port": 80, "protocol": protocol, "targetPort": 8080}],
        "selector": {"app": f"app-{i}"}, "sessionAffinity": "None", "type": "ClusterIP",
    }
    if sticky:
        spec["sessionAffinity"] = "ClientIP"
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 10800}}
    return {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": f"svc-{i}", "namespace": f"ns-{i % 100}", "labels": {"app": f"app-{i}"},
            "creationTimestamp": "2025-01-01T00:00:00Z", "resourceVersion": str(1000 + i),
            "uid": f"5e371ce0-0000-4000-8000-{i:012d}",
        },
        "spec": spec, "status": {"loadBalancer": {}},
    }


def endpoint(number, service=0):
    return {
        "addresses": [endpoint_ip(number)],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": f"node-{number % 1000}", "zone": f"zone-{number % 3}",
        "targetRef": {"kind": "Pod", "name": f"app-{service}-{number}", "namespace": f"ns-{service % 100}",
                      "uid": f"90d00000-0000-4000-8000-{number:012d}"},
    }


def slice_object(i, k, endpoints, protocol="TCP"):
    """Slice number k of service i."""
    return {
        "addressType": "IPv4", "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": f"svc-{i}-{k:05d}", "namespace": f"ns-{i % 100}",
            "creationTimestamp": "2025-01-01T00:00:00Z", "generation": 1, "resourceVersion": str(1000 + i),
            "labels": {"app": f"app-{i}", "kubernetes.io/service-name": f"svc-{i}",
                       "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
            "uid": f"51ce0000-{k:04d}-4000-8000-{i:012d}",
        },
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": protocol}],
    }


def objects(first, last, n_endpoints, protocol="TCP", sticky=False, first_endpoint=None):
    """Services first..last-1 with their slices of at most 100 endpoints, as controllers make them."""
    for i in range(first, last):
        base = i * n_endpoints if first_endpoint is None else first_endpoint
        yield service_object(i, protocol, sticky)
        for k in range(0, n_endpoints, 100):
            numbers = range(base + k, base + min(k + 100, n_endpoints))
            yield slice_object(i, k // 100, [endpoint(n, i) for n in numbers], protocol)


def service_cidr_object():
    return {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"}, "spec": {"cidrs": [SERVICE_CIDR]}}


def node_object():
    return {"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": NODE, "uid": "0de00000-0000-4000-8000-000000000007",
                         "labels": {"topology.kubernetes.io/zone": "zone-1"}},
            "spec": {}, "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.2"}]}}


def write_list(path, items):
    with open(path, "w", encoding="ascii") as f:
        json.dump({"apiVersion": "v1", "kind": "List", "items": list(items)}, f)


def write_manifests(directory, n_services, n_endpoints, protocol="TCP", per_file=500, sticky=False):
    write_list(os.path.join(directory, "cidr.json"), [service_cidr_object()])
    for first in range(0, n_services, per_file):
        last = min(first + per_file, n_services)
        write_list(os.path.join(directory, f"services-{first:06d}.json"),
                   objects(first, last, n_endpoints, protocol, sticky))


def vipmap_command(*arguments):
    """vipmap as a node runs it, but with hands off what lies outside of its namespace."""
    return [VIPMAP, "--hostname-override", NODE, "--cluster-cidr", POD_CIDR, "--oom-score-adj", "0",
            "--conntrack-max-per-core", "0", *arguments]


def vipmap_once(netns_name, manifests, *flags):
    command = vipmap_command("--manifests", manifests, "--once", *flags)
    done = subprocess.run(["ip", "netns", "exec", netns_name, *command],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        die(f"vipmap --once failed with status {done.returncode}:\n{done.stderr}")


def note_conntrack_crowd():
    """All namespaces share one hash table; entries of strangers lengthen its chains for every lane."""
    with open("/proc/slabinfo", encoding="ascii") as f:
        counts = [int(line.split()[1]) for line in f if line.startswith("nf_conntrack ")]
    if counts and counts[0] > 100000:
        print(f"note: {counts[0]} conntrack entries exist on this machine already; new flows cost more than usual")


def note_listeners():
    """Whoever listens to nftables, in whatever namespace, makes the kernel write a message per element for all."""
    group, netfilter, found, seen = 1 << 7 - 1, "12", [], set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/net")
            if namespace in seen:
                continue
            with open(f"/proc/{pid}/net/netlink", encoding="ascii") as f:
                rows = [line.split() for line in f][1:]
        except OSError:  # it has ended
            continue
        seen.add(namespace)
        found += [row[2] for row in rows if row[1] == netfilter and int(row[3], 16) & group]
    if found:
        print(f"note: somebody on this machine listens to nftables (netlink port {', '.join(found)}): "
              "committing many elements takes five times as long and more")


def median(values):
    return statistics.median(values) if values else float("nan")


def percentile(values, p):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))] if ordered else float("nan")


def judge(value, goal):
    return "met" if value <= goal else "MISSED"

"""Node ports: on which addresses they are offered, and on which not."""
from lib.case import *

OBJECTS = (
    both("web", 11, ["pod1", "r1"], kind="NodePort", nodeport=30080)
    + both("local", 12, ["pod2", "r2"], kind="NodePort", nodeport=30081, etp="Local")
    + both("none", 13, [], kind="NodePort", nodeport=30082)
    + both("elsewhere", 14, ["r1"], kind="NodePort", nodeport=30083, etp="Local")
    # one number, two Services, two protocols (NP-1)
    + both("tcponly", 15, ["pod1"], kind="NodePort", nodeport=30084, protos=("TCP",))
    + both("udponly", 16, ["pod2"], kind="NodePort", nodeport=30084, protos=("UDP",))
    # SVC-7: a node port counts whatever the type
    + both("typed", 17, ["pod1"], nodeport=30085)
    + both("nolb", 18, ["pod1"], kind="LoadBalancer", lb=["lb8"], allocateLoadBalancerNodePorts=False)
    + both("ranges", 19, ["pod1"], kind="LoadBalancer", lb=["lb9"], nodeport=30086, ranges=["203.0.113.0/25"])
)

PRIMARY = [
    Row("from outside", "NP-1 NP-2 MASQ-4", "client", "node:30080", reach("pod1", "r1", src="node")),
    Row("from a pod", "NP-1", "pod2", "node:30080", reach("pod1", "r1", src="node")),
    Row("from another node's pod", "NP-1", "rpod", "node:30080", reach("pod1", "r1", src="node")),
    Row("from a host process", "NP-1 VER-8", "node", "node:30080", reach("pod1", "r1", src="node")),
    Row("from a host process, any source", "NP-1 VER-8", "host", "node:30080", reach("pod1", "r1")),
    Row("a secondary address is not one of them", "NP-2 VER-11", "client", "node2:30080", UNTOUCHED),
    Row("a secondary address, from a host process", "NP-2 VER-11", "node2", "node2:30080", UNTOUCHED),
    Row("loopback", "NP-3 VER-11", "loopback", "loopback:30080", UNTOUCHED),
    Row("the service port number on a node address", "VER-11", "client", "node:79", UNTOUCHED),
    Row("a node port nobody has", "VER-7", "client", "node:30090", UNTOUCHED),
    Row("Local, from outside", "POL-2", "client", "node:30081", reach("pod2", src="kept")),
    Row("Local, from a pod", "POL-2 POL-5", "pod1", "node:30081", reach("pod2", "r2", src="kept")),
    Row("Local, from a host process", "POL-2 POL-5", "node", "node:30081", reach("pod2", "r2", src="node")),
    Row("no endpoint", "VER-2", "client", "node:30082", REFUSED),
    Row("no endpoint, from a pod", "VER-2", "pod1", "node:30082", REFUSED),
    Row("no endpoint, from a host process", "VER-2 VER-17", "host", "node:30082", REFUSED),
    Row("no endpoint, secondary address", "VER-11", "client", "node2:30082", UNTOUCHED),
    Row("Local without a local endpoint", "VER-3", "client", "node:30083", DROPPED),
    Row("the same number, TCP", "NP-1", "client", "node:30084", reach("pod1"), protos=("tcp",)),
    Row("the same number, UDP", "NP-1", "client", "node:30084", reach("pod2"), protos=("udp",)),
    Row("type ClusterIP", "SVC-7", "client", "node:30085", reach("pod1", src="node")),
    Row("load balancer without node ports", "NP-7", "client", "lb8:80", reach("pod1")),
    Row("source ranges do not hold", "NP-5 LB-7", "client", "node:30086", reach("pod1", src="node")),
]

group("node port", OBJECTS, PRIMARY)
group("node port, 'primary'", OBJECTS, [r for r in PRIMARY if "second" in r.name or r.name == "from outside"],
      flags=DETECT + ("--nodeport-addresses", "primary"))

EVERYWHERE = [
    Row("primary address", "NP-2", "client", "node:30080", reach("pod1", "r1", src="node")),
    Row("secondary address", "NP-2", "client", "node2:30080", reach("pod1", "r1", src="node")),
    Row("address of another link", "NP-2", "client", "nodeworld:30080", reach("pod1", "r1", src="node")),
    Row("from a host process", "NP-2", "node2", "node2:30080", reach("pod1", "r1", src="node")),
    Row("loopback", "NP-3 VER-11", "loopback", "loopback:30080", UNTOUCHED),
    Row("no endpoint, secondary address", "NP-2 VER-2", "client", "node2:30082", REFUSED),
    Row("an address that is not the node's", "NP-2", "client", "r1:8080", UNTOUCHED),
    Row("the number on another host", "NP-2 VER-7", "client", "ext9:30080", UNTOUCHED),
]
group("node port, all addresses", OBJECTS, EVERYWHERE,
      flags=DETECT + ("--nodeport-addresses", "0.0.0.0/0,::/0"))
# without a Node object the primary address is unknown
group("node port, unknown node", lambda: [service_cidr()] + OBJECTS, EVERYWHERE, with_base=False)

group("node port, ranges", OBJECTS, [
    Row("address inside", "NP-2", "client", "nodeworld:30080", reach("pod1", "r1", src="node")),
    Row("address outside", "NP-2", "client", "node:30080", UNTOUCHED),
    Row("loopback, though a range has it", "NP-3", "loopback", "loopback:30080", UNTOUCHED),
], flags=DETECT + ("--nodeport-addresses", "192.0.2.0/24,fd00:2::/64,127.0.0.0/8,::1/128"))

group("node port, ranges of IPv4 only", OBJECTS, [
    Row("address inside", "NP-2", "client", "nodeworld:30080", reach("pod1", "r1", src="node"), families=(4,)),
    Row("address outside", "NP-2", "client", "node:30080", UNTOUCHED, families=(4,)),
    Row("any IPv6 address", "NP-2", "client", "node2:30080", reach("pod1", "r1", src="node"), families=(6,)),
], flags=DETECT + ("--nodeport-addresses", "192.0.2.0/24"))

group("node port, a range that holds no address", OBJECTS, [
    Row("works nowhere", "NP-2", "client", "node:30080", UNTOUCHED),
    Row("the ClusterIP does", "NP-2", "client", "svc11:80", reach("pod1", "r1")),
], flags=DETECT + ("--nodeport-addresses", "10.250.0.0/16,fd00:250::/64"))

group("node port, bind address", OBJECTS, [
    Row("replaces the primary address", "NODE-2", "client", "node2:30080", reach("pod1", "r1"), families=(4,)),
    Row("the Node's own is none any more", "NODE-2", "client", "node:30080", UNTOUCHED, families=(4,)),
    Row("the other family keeps its own", "NODE-2", "client", "node:30080", reach("pod1", "r1"), families=(6,)),
], flags=DETECT + ("--bind-address", "192.168.1.5"))

# VER-14: what is declared as a VIP is no node port, though address and number would fit
group("node address declared as external IP",
      both("np", 11, ["pod1"], kind="NodePort", nodeport=30080)
      + both("ext", 12, ["r1"], ports=(30080,), external=["node"])
      + both("deadext", 13, [], ports=(30081,), external=["node"])
      + both("np2", 14, ["pod1"], kind="NodePort", nodeport=30081), [
          Row("the external IP decides", "VER-14", "client", "node:30080", reach("r1")),
          Row("even without endpoints", "VER-14", "client", "node:30081", REFUSED),
      ])


@case("neither a word nor a range is a configuration error", "NP-8")
def mixed(b):
    b.program.write(base() + OBJECTS)
    status, _, err = b.program.run("--manifests", b.program.manifests, "--once", "--nodeport-addresses",
                                   "primary,everywhere")
    b.equal("exit status", 2, status)
    b.true("the message names it: " + err, "nodeport" in err.lower() and "everywhere" in err)


@case("primary and a range are united", "NP-2", both_families)
def united(b, family):
    b.once(OBJECTS, *DETECT, "--nodeport-addresses", "primary,192.0.2.0/24,fd00:2::/64")
    for name in ("node", "nodeworld"):
        b.expect("client", name + ":30080", family, "tcp", reach("pod1", "r1"))


@case("addresses come and go while it runs, all of them", "NP-4", both_families, both_protos)
def come_and_go_all(b, family, proto):
    new = "192.168.1.77" if family == 4 else "fd00:1::77"
    b.start(OBJECTS, *DETECT, "--nodeport-addresses", "0.0.0.0/0,::/0")
    with b.world.node_has("toclient", new):
        b.expect("client", "%s:30080" % new, family, proto, reach("pod1", "r1"))


@case("addresses come and go while it runs, by ranges", "NP-4 RUN-3", both_families, both_protos)
def come_and_go(b, family, proto):
    new, other = ("192.168.1.77", "192.168.1.50") if family == 4 else ("fd00:1::77", "fd00:1::d0")
    b.start(OBJECTS, *DETECT, "--nodeport-addresses", "192.168.1.64/26,fd00:1::70/124")
    b.expect("client", "node:30080", family, proto, UNTOUCHED)
    with b.world.node_has("toclient", new, other):
        b.eventually("client", "%s:30080" % new, family, proto, reach("pod1", "r1"), seconds=3)
        b.expect("client", "%s:30080" % other, family, proto, UNTOUCHED)
    b.until("the address among those with node ports after it went", False,
            lambda: new in b.in_node("nft", "list", "set", "ip" if family == 4 else "ip6", "vipmap", "nodeport-ips"))


@case("the Node's address changes while it runs", "NODE-4", both_families, both_protos)
def node_changes(b, family, proto):
    b.program.start([node(), service_cidr()] + OBJECTS, *DETECT)
    b.expect("client", "node:30080", family, proto, reach("pod1", "r1"))
    b.program.apply([node(addresses=("node2",)), service_cidr()] + OBJECTS)
    b.program.flush()
    b.expect("client", "node2:30080", family, proto, reach("pod1", "r1"))
    b.expect("client", "node:30080", family, proto, UNTOUCHED)


@case("no socket is bound for a node port", "NP-6")
def no_socket(b):
    b.start(OBJECTS)
    out = b.in_node("ss", "-Hlntup")
    b.equal("sockets of vipmap at 30080", [], [line for line in out.splitlines()
                                               if ":3008" in line and "vipmap" in line])

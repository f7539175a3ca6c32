"""Kubernetes objects in few words. Services are dual-stack, TCP and UDP, unless told otherwise, so that one
table of cases runs for every family and protocol. Addresses are names of lib.topology."""
import copy

from .topology import CLUSTER_CIDR, HOSTS, LOCAL_PODS, NODE_CIDRS, SERVICE_CIDRS, addr

THIS_NODE = "node1"
OTHER_NODE = "node2"


class Ep:
    """One endpoint; unset conditions stay unset. Pods of this world are on this node, all else on the other."""

    def __init__(self, name, port=None, ready=None, serving=None, terminating=None, node="auto",
                 zones=(), nodes=()):
        self.name, self.port, self.zones, self.nodes = name, port, zones, nodes
        self.conditions = {k: v for k, v in (("ready", ready), ("serving", serving),
                                             ("terminating", terminating)) if v is not None}
        local = name in LOCAL_PODS or name in ("node", "node2")
        self.node = (THIS_NODE if local else OTHER_NODE) if node == "auto" else node

    def manifest(self, family):
        out = {"addresses": [addr(self.name, family)]}
        if self.conditions:
            out["conditions"] = dict(self.conditions)
        if self.node:
            out["nodeName"] = self.node
        hints = {}
        if self.zones:
            hints["forZones"] = [{"name": z} for z in self.zones]
        if self.nodes:
            hints["forNodes"] = [{"name": n} for n in self.nodes]
        if hints:
            out["hints"] = hints
        return out


def terminating(name, **more):
    """Not ready any more, still serving: what a draining pod looks like."""
    return Ep(name, ready=False, serving=True, terminating=True, **more)


def unready(name, **more):
    return Ep(name, ready=False, serving=False, terminating=False, **more)


def service(name, n=None, ports=(80,), protos=("TCP", "UDP"), families=(4, 6), kind="ClusterIP", nodeport=None,
            external=(), lb=(), lb_mode=None, ranges=(), itp=None, etp=None, affinity=None, created=None,
            labels=None, namespace="default", target=8080, **spec):
    """A Service without endpoints. @n is the number of its ClusterIP: svcN. @nodeport is that of the first port."""
    port_list = []
    for i, port in enumerate(ports):
        for proto in protos:
            entry = {"name": port_name(proto, port), "protocol": proto, "port": port, "targetPort": target}
            if nodeport:
                entry["nodePort"] = nodeport + i
            port_list.append(entry)
    body = {"type": kind, "ports": port_list}
    if n is not None:
        body["clusterIPs"] = [addr("svc%d" % n, f) for f in families]
        body["clusterIP"] = body["clusterIPs"][0]
        body["ipFamilies"] = ["IPv%d" % f for f in families]
        body["ipFamilyPolicy"] = "PreferDualStack"
    if external:
        body["externalIPs"] = [addr(e, f) for e in external for f in families]
    if ranges:
        body["loadBalancerSourceRanges"] = list(ranges)
    if itp:
        body["internalTrafficPolicy"] = itp
    if etp:
        body["externalTrafficPolicy"] = etp
    if affinity:
        body["sessionAffinity"] = "ClientIP"
        body["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": affinity}}
    body.update(spec)
    meta = {"name": name, "namespace": namespace, "uid": "uid-" + name}
    if labels:
        meta["labels"] = dict(labels)
    if created:
        meta["creationTimestamp"] = created
    out = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": body}
    if lb:
        ingress = []
        for name_ in lb:
            for f in families:
                entry = {"ip": addr(name_, f)}
                if lb_mode:
                    entry["ipMode"] = lb_mode
                ingress.append(entry)
        out["status"] = {"loadBalancer": {"ingress": ingress}}
    return out


def port_name(proto, port):
    return "%s%d" % (proto[0].lower(), port)


def slices(service_name, endpoints, ports=(80,), protos=("TCP", "UDP"), families=(4, 6), namespace="default",
           target=8080, suffix="", labels=None):
    """EndpointSlices for @endpoints (names or Ep), one per family and target port."""
    endpoints = [e if isinstance(e, Ep) else Ep(*e.split(":", 1)[:1], port=int(e.split(":")[1]) if ":" in e
                                                else None) for e in endpoints]
    out = []
    for family in families:
        for port in sorted({e.port or target for e in endpoints} or {target}):
            meta = {"name": "%s-%d-%d%s" % (service_name, family, port, suffix), "namespace": namespace,
                    "labels": {"kubernetes.io/service-name": service_name}}
            if labels is not None:
                meta["labels"] = labels
            out.append({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta,
                "addressType": "IPv%d" % family,
                "ports": [{"name": port_name(proto, p), "protocol": proto, "port": port}
                          for p in ports for proto in protos],
                "endpoints": [e.manifest(family) for e in endpoints if (e.port or target) == port],
            })
    return out


def both(name, n, endpoints, **more):
    """A Service and its slices."""
    shared = {k: more[k] for k in ("ports", "protos", "families", "namespace", "target") if k in more}
    return [service(name, n, **more)] + slices(name, endpoints, **shared)


def node(addresses=("node",), zone=None, pod_cidrs=None, name=THIS_NODE, families=(4, 6)):
    out = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": "uid-" + name},
           "spec": {"podCIDRs": NODE_CIDRS if pod_cidrs is None else pod_cidrs},
           "status": {"addresses": [{"type": "InternalIP", "address": addr(a, f)}
                                    for a in addresses for f in families] +
                                   [{"type": "Hostname", "address": name}]}}
    if zone is not None:
        out["metadata"]["labels"] = {"topology.kubernetes.io/zone": zone}
    return out


def service_cidr(cidrs=None, name="kubernetes"):
    return {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
            "spec": {"cidrs": list(SERVICE_CIDRS if cidrs is None else cidrs)}}


def base(**more):
    """What nearly every test has: this node and the ServiceCIDR."""
    return [node(**more), service_cidr()]


def changed(obj, *path, value):
    """A copy of @obj with the field at @path set, or removed if @value is None."""
    out = copy.deepcopy(obj)
    at = out
    for key in path[:-1]:
        at = at.setdefault(key, {}) if isinstance(at, dict) else at[key]
    if value is None:
        at.pop(path[-1], None)
    else:
        at[path[-1]] = value
    return out


__all__ = ["Ep", "terminating", "unready", "service", "slices", "both", "node", "service_cidr", "base", "changed",
           "port_name", "THIS_NODE", "OTHER_NODE", "CLUSTER_CIDR", "HOSTS"]

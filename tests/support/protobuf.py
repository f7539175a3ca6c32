"""The API's objects from their JSON form to protobuf, for the fake API server.

As the real one writes them: a value that is no pointer in Go is there even if it is empty, fields
come in the order of their numbers, lists that are empty are not there. The tables have all fields of
the objects that a node proxy reads; what is not in them, or of a wrong type, is left out.
"""
import calendar
import functools
import json
import os
import re
import struct
import sys

MAGIC = b"k8s\0"

# name: (number, type). Of types in capitals, Go has a pointer: not there if it is not set.
TABLES = {
    "ObjectMeta": {
        "name": (1, "text"), "generateName": (2, "text"), "namespace": (3, "text"), "selfLink": (4, "text"),
        "uid": (5, "text"), "resourceVersion": (6, "text"), "generation": (7, "int"),
        "creationTimestamp": (8, "time"), "deletionTimestamp": (9, "TIME"), "deletionGracePeriodSeconds": (10, "INT"),
        "labels": (11, "map"), "annotations": (12, "map"), "ownerReferences": (13, "list:OwnerReference"),
        "finalizers": (14, "texts"), "managedFields": (17, "list:ManagedFieldsEntry")},
    "OwnerReference": {
        "kind": (1, "text"), "name": (3, "text"), "uid": (4, "text"), "apiVersion": (5, "text"),
        "controller": (6, "BOOL"), "blockOwnerDeletion": (7, "BOOL")},
    "ManagedFieldsEntry": {
        "manager": (1, "text"), "operation": (2, "text"), "apiVersion": (3, "text"), "time": (4, "TIME"),
        "fieldsType": (6, "text"), "fieldsV1": (7, "RAW"), "subresource": (8, "text")},
    "ListMeta": {
        "selfLink": (1, "text"), "resourceVersion": (2, "text"), "continue": (3, "text"),
        "remainingItemCount": (4, "INT")},
    "Status": {
        "metadata": (1, "ListMeta"), "status": (2, "text"), "message": (3, "text"), "reason": (4, "text"),
        "details": (5, "*StatusDetails"), "code": (6, "int")},
    "StatusDetails": {
        "name": (1, "text"), "group": (2, "text"), "kind": (3, "text"), "causes": (4, "list:StatusCause"),
        "retryAfterSeconds": (5, "int"), "uid": (6, "text")},
    "StatusCause": {"reason": (1, "text"), "message": (2, "text"), "field": (3, "text")},
    "Condition": {
        "type": (1, "text"), "status": (2, "text"), "observedGeneration": (3, "int"), "lastTransitionTime": (4, "time"),
        "reason": (5, "text"), "message": (6, "text")},
    "Service": {"metadata": (1, "ObjectMeta"), "spec": (2, "ServiceSpec"), "status": (3, "ServiceStatus")},
    "ServiceSpec": {
        "ports": (1, "list:ServicePort"), "selector": (2, "map"), "clusterIP": (3, "text"), "type": (4, "text"),
        "externalIPs": (5, "texts"), "sessionAffinity": (7, "text"), "loadBalancerIP": (8, "text"),
        "loadBalancerSourceRanges": (9, "texts"), "externalName": (10, "text"), "externalTrafficPolicy": (11, "text"),
        "healthCheckNodePort": (12, "int"), "publishNotReadyAddresses": (13, "bool"),
        "sessionAffinityConfig": (14, "*SessionAffinityConfig"), "ipFamilyPolicy": (17, "TEXT"),
        "clusterIPs": (18, "texts"), "ipFamilies": (19, "texts"), "allocateLoadBalancerNodePorts": (20, "BOOL"),
        "loadBalancerClass": (21, "TEXT"), "internalTrafficPolicy": (22, "TEXT"), "trafficDistribution": (23, "TEXT")},
    "ServicePort": {
        "name": (1, "text"), "protocol": (2, "text"), "port": (3, "int"), "targetPort": (4, "intorstring"),
        "nodePort": (5, "int"), "appProtocol": (6, "TEXT")},
    "SessionAffinityConfig": {"clientIP": (1, "*ClientIPConfig")},
    "ClientIPConfig": {"timeoutSeconds": (1, "INT")},
    "ServiceStatus": {"loadBalancer": (1, "LoadBalancerStatus"), "conditions": (2, "list:Condition")},
    "LoadBalancerStatus": {"ingress": (1, "list:LoadBalancerIngress")},
    "LoadBalancerIngress": {
        "ip": (1, "text"), "hostname": (2, "text"), "ipMode": (3, "TEXT"), "ports": (4, "list:PortStatus")},
    "PortStatus": {"port": (1, "int"), "protocol": (2, "text"), "error": (3, "TEXT")},
    "EndpointSlice": {
        "metadata": (1, "ObjectMeta"), "endpoints": (2, "list:Endpoint"), "ports": (3, "list:EndpointPort"),
        "addressType": (4, "text")},
    "Endpoint": {
        "addresses": (1, "texts"), "conditions": (2, "EndpointConditions"), "hostname": (3, "TEXT"),
        "targetRef": (4, "*ObjectReference"), "deprecatedTopology": (5, "map"), "nodeName": (6, "TEXT"),
        "zone": (7, "TEXT"), "hints": (8, "*EndpointHints")},
    "EndpointConditions": {"ready": (1, "BOOL"), "serving": (2, "BOOL"), "terminating": (3, "BOOL")},
    "EndpointHints": {"forZones": (1, "list:ForName"), "forNodes": (2, "list:ForName")},
    "ForName": {"name": (1, "text")},
    "ObjectReference": {
        "kind": (1, "text"), "namespace": (2, "text"), "name": (3, "text"), "uid": (4, "text"),
        "apiVersion": (5, "text"), "resourceVersion": (6, "text"), "fieldPath": (7, "text")},
    "EndpointPort": {"name": (1, "TEXT"), "protocol": (2, "TEXT"), "port": (3, "INT"), "appProtocol": (4, "TEXT")},
    "ServiceCIDR": {
        "metadata": (1, "ObjectMeta"), "spec": (2, "ServiceCIDRSpec"), "status": (3, "ServiceCIDRStatus")},
    "ServiceCIDRSpec": {"cidrs": (1, "texts")},
    "ServiceCIDRStatus": {"conditions": (1, "list:Condition")},
    "Node": {"metadata": (1, "ObjectMeta"), "spec": (2, "NodeSpec"), "status": (3, "NodeStatus")},
    "NodeSpec": {
        "podCIDR": (1, "text"), "externalID": (2, "text"), "providerID": (3, "text"), "unschedulable": (4, "bool"),
        "taints": (5, "list:Taint"), "podCIDRs": (7, "texts")},
    "Taint": {"key": (1, "text"), "value": (2, "text"), "effect": (3, "text"), "timeAdded": (4, "TIME")},
    "NodeStatus": {
        "phase": (3, "text"), "conditions": (4, "list:Condition"), "addresses": (5, "list:NodeAddress"),
        "daemonEndpoints": (6, "NodeDaemonEndpoints"), "nodeInfo": (7, "NodeSystemInfo")},
    "NodeDaemonEndpoints": {"kubeletEndpoint": (1, "DaemonEndpoint")},
    "DaemonEndpoint": {"Port": (1, "int")},
    "NodeSystemInfo": {
        "machineID": (1, "text"), "systemUUID": (2, "text"), "bootID": (3, "text"), "kernelVersion": (4, "text"),
        "osImage": (5, "text"), "containerRuntimeVersion": (6, "text"), "kubeletVersion": (7, "text"),
        "kubeProxyVersion": (8, "text"), "operatingSystem": (9, "text"), "architecture": (10, "text")},
    "NodeAddress": {"type": (1, "text"), "address": (2, "text")},
}


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number, wire):
    return varint(number << 3 | wire)


def counted(mark, data):
    """A field of bytes; @mark is its tag."""
    length = len(data)
    return (mark + bytes((length,)) if length < 0x80 else mark + varint(length)) + data


@functools.lru_cache(maxsize=65536)
def text(mark, value):
    return counted(mark, value.encode())


@functools.lru_cache(maxsize=1024)
def moment(value):
    """Seconds of RFC 3339; the rest is not kept in protobuf. None if it is no time."""
    match = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)", value)
    if not match:
        return None
    year, month, day, hour, minute, second = (int(n) for n in match.groups()[:6])
    zone = match.group(7)
    east = 0 if zone == "Z" else int(zone[1:3]) * 60 + int(zone[4:])
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    return seconds - (-east if zone[0] == "-" else east) * 60


def time_message(value):
    seconds = moment(value) if isinstance(value, str) else None
    return b"" if seconds is None else b"\x08" + varint(seconds) + b"\x10\0"


def encode_text(mark, value):
    return text(mark, value if isinstance(value, str) else "")


def encode_texts(mark, value):
    return b"".join(text(mark, v) for v in value if isinstance(v, str)) if isinstance(value, list) else b""


def encode_number(mark, value):
    return mark + varint(int(value)) if isinstance(value, (int, bool)) else mark + b"\0"


def encode_time(mark, value):
    return counted(mark, time_message(value))


def encode_map(mark, value):
    if not isinstance(value, dict):
        return b""
    return b"".join(counted(mark, text(b"\x0a", k) + encode_text(b"\x12", v)) for k, v in sorted(value.items()))


def encode_int_or_string(mark, value):
    if isinstance(value, str):
        return counted(mark, b"\x08\1\x10\0" + text(b"\x1a", value))
    return counted(mark, b"\x08\0\x10" + varint(value or 0) + b"\x1a\0")


def encode_raw(mark, value):
    """FieldsV1: JSON in a message."""
    return counted(mark, text(b"\x0a", json.dumps(value, separators=(",", ":"))))


def encode_message(message, mark, value):
    return counted(mark, encode(message, value if isinstance(value, dict) else {}))


def encode_list(message, mark, value):
    if not isinstance(value, list):
        return b""
    return b"".join(counted(mark, encode(message, v)) for v in value if isinstance(v, dict))


SCALARS = {"text": (2, encode_text), "int": (0, encode_number), "bool": (0, encode_number), "time": (2, encode_time),
           "raw": (2, encode_raw), "texts": (2, encode_texts), "map": (2, encode_map),
           "intorstring": (2, encode_int_or_string)}


def compiled(table):
    """[(name, tag, encoder, whether it is there if it is not set)], by number."""
    fields = []
    for name, (number, kind) in sorted(table.items(), key=lambda item: item[1][0]):
        if kind.lower() in SCALARS:
            wire, encoder = SCALARS[kind.lower()]
            always = kind.islower() and kind not in ("texts", "map")
        else:
            wire, always = 2, kind[0].isupper()
            base = encode_list if kind.startswith("list:") else encode_message
            encoder = functools.partial(base, kind.split(":")[-1].lstrip("*"))
        fields.append((name, tag(number, wire), encoder, always))
    return fields


COMPILED = {name: compiled(table) for name, table in TABLES.items()}


def encode(message, obj):
    out = []
    for name, mark, encoder, always in COMPILED[message]:
        value = obj.get(name)
        if always or value is not None:
            out.append(encoder(mark, value))
    return b"".join(out)


def body(version, kind, raw):
    """An answer, or the object in an event: the message Unknown."""
    meta = text(b"\x0a", version) + text(b"\x12", kind)
    return MAGIC + counted(b"\x0a", meta) + counted(b"\x12", raw) + b"\x1a\0\x22\0"


def listed(version, kind, meta, items):
    """@items are messages."""
    return body(version, kind, counted(b"\x0a", encode("ListMeta", meta)) +
                b"".join(counted(b"\x12", item) for item in items))


def frame(kind, obj):
    """An event of a watch; @obj is a body."""
    event = text(b"\x0a", kind) + counted(b"\x12", counted(b"\x0a", obj))
    return struct.pack(">I", len(event)) + event


def recorded(path):
    """The body of a recorded answer."""
    with open(path, "rb") as f:
        head, rest = f.read().split(b"\r\n\r\n", 1)
    if b"Transfer-Encoding: chunked" not in head:
        return rest
    out = b""
    while True:
        size, rest = rest.split(b"\r\n", 1)
        if not int(size, 16):
            return out
        out, rest = out + rest[:int(size, 16)], rest[int(size, 16) + 2:]


def of_recording(obj):
    """What a server answers in JSON, as protobuf."""
    version, kind = obj["apiVersion"], obj["kind"]
    if not kind.endswith("List"):
        return body(version, kind, encode(kind, obj))
    return listed(version, kind, obj["metadata"], [encode(kind[:-4], item) for item in obj["items"]])


def check(folder):
    """Of each recorded pair the JSON, encoded here, has to be the very bytes of the real server."""
    names = sorted(name for name in os.listdir(folder)
                   if name.endswith(".json.response") and not name.startswith("watch"))
    wrong = [name for name in names
             if of_recording(json.loads(recorded(os.path.join(folder, name)))) !=
             recorded(os.path.join(folder, name.replace(".json.", ".pb.")))]
    print("%d pairs, of another encoding: %s" % (len(names), ", ".join(wrong) or "none"))
    return 1 if wrong or len(names) < 10 else 0


if __name__ == "__main__":
    sys.exit(check(sys.argv[1]))

#!/usr/bin/env python3
"""An HTTP proxy: CONNECT for https, whole URLs for http. Says "port N", then a line for each request: its first line
and what it was authorized with. --user NAME:PASSWORD asks for that, by 407."""
import argparse
import base64
import os
import socket
import threading
import urllib.parse


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def read_head(client):
    head = b""
    while b"\r\n\r\n" not in head:
        data = client.recv(65536)
        if not data:
            return None
        head += data
    return head


def serve(client, user):
    with client:
        head = read_head(client)
        if head is None:
            return
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        given = [base64.b64decode(line.split(" ")[2]).decode() for line in lines
                 if line.lower().startswith("proxy-authorization: basic ")]
        os.write(1, ("%s %s\n" % (lines[0], given[0] if given else "nobody")).encode())
        if user and given != [user]:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                           b"Proxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")
            return
        url = urllib.parse.urlsplit(target if "://" in target else "//" + target)
        try:
            server = socket.create_connection((url.hostname, url.port))
        except OSError:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        with server:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = url.path + ("?" + url.query if url.query else "")
                server.sendall(head.replace(target.encode(), path.encode(), 1))
            threading.Thread(target=pump, args=(client, server), daemon=True).start()
            pump(server, client)


def main():
    parser = argparse.ArgumentParser(description="an HTTP proxy for tests")
    parser.add_argument("--user")
    args = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0))
    os.write(1, b"port %d\n" % listener.getsockname()[1])
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client, args.user), daemon=True).start()


main()

"""Certificates and tokens made on the spot by the openssl command."""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import threading
import time


NEVER = object()  # as "exp": a token without it


def held_open(message):
    """Requests of a stream: one message, and then nothing; half-closing would end it."""
    yield message
    threading.Event().wait(10)


def openssl(*args, stdin=None):
    return subprocess.run(["openssl", *args], input=stdin, check=True, capture_output=True).stdout


class Authority:
    def __init__(self, folder, name="authority"):
        self.folder, self.name = str(folder), name
        self.certificate, self.key = self.path(f"{name}.pem"), self.path(f"{name}.key")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.certificate)

    def path(self, name):
        return os.path.join(self.folder, name)

    def issue(self, name, into=None):
        """(certificate, key) for 127.0.0.1 and localhost. into: a pair of files to replace, atomically."""
        certificate, key = self.path(f"{name}.pem"), self.path(f"{name}.key")
        request, extensions = self.path(f"{name}.csr"), self.path("extensions")
        with open(extensions, "w", encoding="utf-8") as out:
            out.write("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial",
                "-days", "2", "-extfile", extensions, "-out", certificate)
        if into:
            os.replace(key, into[1])
            os.replace(certificate, into[0])
            return into
        return certificate, key


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def token(secret, claims, algorithm="HS256", key=None):
    """A JWT. key: a PEM private key for RS256."""
    claims = {"exp": int(time.time()) + 60, **claims}
    claims = {name: value for name, value in claims.items() if value is not NEVER}
    head = base64url(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    text = head + b"." + base64url(json.dumps(claims).encode())
    if algorithm == "none":
        return (text + b".").decode()
    if key:
        signature = openssl("dgst", "-sha256", "-sign", key, stdin=text)
    else:
        signature = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    return (text + b"." + base64url(signature)).decode()

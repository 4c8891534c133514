"""A client of the REST control plane, and an instance that has one."""

import http.client
import json
import ssl

from instance import Instance, free_port

GENERATOR = {"source.kind": "generator", "source.database": "db", "generator.collections": 2,
             "generator.rate": 500, "matcher.shards": 2}


class RestInstance(Instance):
    def __init__(self, settings=(), host="127.0.0.1"):
        self.rest_port = free_port()
        super().__init__({**GENERATOR, "rest.listen": f"{host}:{self.rest_port}", **dict(settings)})

    def connect(self, **kwargs):
        return Rest(self.rest_port, **kwargs)

    def durable(self):
        return self.counter("publisher", "millrace_publisher_durable_subscriptions")


class Answer:
    def __init__(self, response):
        self.status, self.headers = response.status, dict(response.getheaders())
        self.text = response.read()
        self.json = json.loads(self.text) if self.text and "json" in self.headers.get("Content-Type", "") else None

    @property
    def code(self):
        return self.json and self.json.get("code")


class Rest:
    """One connection. context: an ssl.SSLContext for https."""

    def __init__(self, port, token=None, context=None):
        self.token = token
        if context:
            self.connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
        else:
            self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(self, method, path, body=None, headers=(), raw=None):
        headers = dict(headers)
        if body is not None:
            raw = json.dumps(body).encode()
        if raw is not None:
            headers.setdefault("Content-Type", "application/json")
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        self.connection.request(method, path, body=raw, headers=headers)
        return Answer(self.connection.getresponse())

    def register(self, ident, gateway="g1", **more):
        body = {"gatewayId": gateway, "subscriptionId": ident, "tenant": "db", "collection": "c0", **more}
        return self.ask("POST", "/internal/v1/subscriptions", body)

    def get(self, ident):
        return self.ask("GET", f"/internal/v1/subscriptions/{ident}")

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def tls_context(ca, certificate=None, key=None):
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    if certificate:
        context.load_cert_chain(certificate, key)
    return context

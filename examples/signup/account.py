"""Signs up for an account whose identity is a key of one's own, waits until every server has it, and logs in to it:
python3 account.py SERVICE SEED_FILE TOKEN_FILE NAME [PLAN]

The seed (SA...) never leaves this machine. With PROOF_TIME set, to milliseconds since 1970, the program prints the request
instead of sending it. It needs the package cryptography. docs/protocol.md says what the bytes mean.
"""

import base64
import hashlib
import json
import os
import socket
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from nkey import key_pair


def account_request(service, seed, token, name, plan, at):
    key, public_key = key_pair(seed)
    digest = hashlib.sha256(token.encode()).hexdigest()
    statement = "\n".join(["gatehouse account.signup v1", service, public_key, name, plan, digest, str(at)])
    signature = base64.urlsafe_b64encode(key.sign(statement.encode())).decode().rstrip("=")
    return {
        "name": name, "plan": plan, "key": public_key,
        "proof": {"audience": service, "time": at, "signature": signature},
    }


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token is for this address alone."""

    def redirect_request(self, *args):
        return None


def call(service, token, operation, body):
    request = urllib.request.Request(
        f"{service}/v1/{operation}", json.dumps(body).encode(),
        {"Authorization": "Bearer " + token, "Content-Type": "application/json"},
    )
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=15) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        answer = json.load(refused)
        sys.exit(f"{answer['reason']}: {answer['message']} [request {answer['request_id']}]")


def sign_up(service, token, request):
    """Returns once every server has the account, which an admin may have to approve first."""
    name, said = request["name"], ""
    answer = call(service, token, "account.signup", request)
    while answer["state"] != "active":
        if answer["state"] != said:
            said = answer["state"]
            print(f"account {name} ({answer['account']}) is {said}", flush=True)
        time.sleep(1)
        answer = call(service, token, "account.get", {"account": name})
    print(f"account {name} ({answer['account']}) is active")


def login(service, token, name):
    """Logs in to the first server that the service names, as a member of the account.

    It shows what is sent. A program that stays connected uses a library: with nats-py
    nats.connect(url, user="account:" + name, password=token) does the same.
    """
    with urllib.request.urlopen(service + "/.well-known/gatehouse", timeout=15) as answer:
        url = urllib.parse.urlsplit(json.load(answer)["nats"][0])
    connection = socket.create_connection((url.hostname, url.port or 4222), timeout=15)
    info = json.loads(connection.makefile("rb", buffering=0).readline().removeprefix(b"INFO "))
    if url.scheme == "tls" or info.get("tls_required"):
        connection = ssl.create_default_context().wrap_socket(connection, server_hostname=url.hostname)
    options = {
        "user": "account:" + name, "pass": token, "protocol": 1, "verbose": False, "pedantic": False,
        "lang": "python3", "version": "1",
    }
    with connection:
        connection.sendall(b"CONNECT " + json.dumps(options).encode() + b"\r\nPING\r\n")
        for line in connection.makefile("rb"):
            if line.startswith(b"-ERR"):
                sys.exit(f"the server says {line.decode().strip()}")
            if line.startswith(b"PONG"):
                print(f"logged in to account {name}")
                return
    sys.exit("the server has hung up")


def main():
    service, seed_file, token_file, name, plan = (sys.argv[1:] + [""])[:5]
    with open(seed_file) as f:
        seed = f.read().strip()
    with open(token_file) as f:
        token = f.read().strip()
    at = int(os.environ.get("PROOF_TIME") or time.time() * 1000)
    request = account_request(service, seed, token, name, plan, at)
    if "PROOF_TIME" in os.environ:
        print(json.dumps(request))
        return
    sign_up(service, token, request)
    login(service, token, name)


if __name__ == "__main__":
    main()

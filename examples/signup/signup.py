"""Signs up as a direct user: python3 signup.py SERVICE SEED_FILE TOKEN_FILE [ACCOUNT [PROGRAM]]

With PROOF_TIME set, to milliseconds since 1970, it prints the request instead of sending it.
It needs the package cryptography. docs/protocol.md says what the bytes mean.
"""

import base64
import hashlib
import json
import os
import sys
import time
import urllib.error
import urllib.request

from nkey import key_pair


def signup_request(service, seed, token, account, program, at):
    key, user_key = key_pair(seed)
    digest = hashlib.sha256(token.encode()).hexdigest()
    statement = "\n".join(["gatehouse user.signup v1", service, user_key, account, program, digest, str(at)])
    signature = base64.urlsafe_b64encode(key.sign(statement.encode())).decode().rstrip("=")
    return {
        "user_key": user_key, "account": account, "program": program,
        "proof": {"audience": service, "time": at, "signature": signature},
    }


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token is for this address alone."""

    def redirect_request(self, *args):
        return None


def main():
    service, seed_file, token_file, account, program = (sys.argv[1:] + ["", ""])[:5]
    with open(seed_file) as f:
        seed = f.read().strip()
    with open(token_file) as f:
        token = f.read().strip()
    at = int(os.environ.get("PROOF_TIME") or time.time() * 1000)
    request = signup_request(service, seed, token, account, program, at)
    if "PROOF_TIME" in os.environ:
        print(json.dumps(request))
        return
    call = urllib.request.Request(
        service + "/v1/user.signup", json.dumps(request).encode(),
        {"Authorization": "Bearer " + token, "Content-Type": "application/json"},
    )
    try:
        with urllib.request.build_opener(NoRedirect).open(call, timeout=15) as answer:
            print(json.load(answer)["jwt"])
    except urllib.error.HTTPError as refused:
        answer = json.load(refused)
        sys.exit(f"{answer['reason']}: {answer['message']} [request {answer['request_id']}]")


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# Software: obstore 0.12.1 (the Rust crate object_store) over S3 as moto 5.2.5 plays it; boto3 1.44.8 is the control.
# Guess: the keys of a store are texts: what `list` names can be read and deleted, and the two keys `a/f` and `a/f/`,
#   which S3 holds apart, are two objects.
# Instead: a slash at the end of a key is dropped. `list` names `a/f` twice, and `a/dir` for the empty object that
#   consoles and other tools leave as a mark of a folder, which then cannot be read; `get` and `delete` of `a/f/` work
#   on `a/f`: the file is gone and the mark is left; a `put` to `b/` makes the object `b`. Each returns without an
#   error.
# Right: Amazon S3 user guide, "Naming Amazon S3 objects": the key is the identity of an object, and a folder is an
#   object whose key ends in a slash.
# Seen:
#   keys: a/dir/ a/f a/f/
#   list: a/dir a/f a/f
#   get a/f/: file
#   get a/dir/: FileNotFoundError
#   keys after delete a/f/ and put b/: a/dir/ a/f/ b
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check obstore==0.12.1 'moto[s3]==5.2.5' \
    flask==3.1.3 flask-cors==6.0.5 boto3==1.44.8
"$work/venv/bin/python" - 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import sys

import boto3
import obstore
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
who = {"endpoint_url": f"http://{host}:{port}", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
control = boto3.client("s3", region_name="us-east-1", **who)
control.create_bucket(Bucket="bucket")
for key, body in (("a/dir/", b""), ("a/f", b"file"), ("a/f/", b"")):
    control.put_object(Bucket="bucket", Key=key, Body=body)
store = S3Store(
    "bucket",
    endpoint=who["endpoint_url"],
    access_key_id="a",
    secret_access_key="b",
    region="us-east-1",
    virtual_hosted_style_request=False,
    client_options={"allow_http": True},
)


def keys():
    return " ".join(entry["Key"] for entry in control.list_objects_v2(Bucket="bucket")["Contents"])


def read(key):
    try:
        return bytes(obstore.get(store, key).bytes()).decode()
    except Exception as error:
        return type(error).__name__


seen = {
    "keys": keys(),
    "list": " ".join(entry["path"] for entries in obstore.list(store) for entry in entries),
    "get a/f/": read("a/f/"),
    "get a/dir/": read("a/dir/"),
}
obstore.delete(store, "a/f/")
obstore.put(store, "b/", b"new")
seen["keys after delete a/f/ and put b/"] = keys()
server.stop()
expected = {
    "keys": "a/dir/ a/f a/f/",
    "list": "a/dir a/f a/f",
    "get a/f/": "file",
    "get a/dir/": "FileNotFoundError",
    "keys after delete a/f/ and put b/": "a/dir/ a/f/ b",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

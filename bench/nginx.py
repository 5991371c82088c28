"""The yardstick: nginx with one worker, relaying the same bytes to the same fake provider, unbuffered and with keep-alive.

nginx knows nothing of what it relays.  It stands for what the kernel, HTTP/1.1 and a mature event loop in C cost on this
machine at this hour, so that a ratio to it means about the same on another machine.
"""

import getpass
import os
import shutil
from pathlib import Path
from typing import Final

from bench.subject import LIVE_PATH, Subject

_CONFIG: Final = """\
daemon off;
{user}worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    client_body_buffer_size 256k;
    client_max_body_size 1m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream provider {{
        server 127.0.0.1:{provider_port};
        keepalive 512;
        keepalive_timeout 300s;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location = {live_path} {{ return 200; }}
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 300s;
        }}
    }}
}}
"""


def find_nginx() -> str | None:
    """The program, also where Debian puts it and a user's PATH does not look."""
    return shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


def config_text(*, folder: Path, port: int, provider_port: int, user: str | None) -> str:
    """The configuration; `user` names who the worker runs as when the master is root."""
    return _CONFIG.format(
        folder=folder,
        port=port,
        provider_port=provider_port,
        user=f"user {user};\n" if user else "",
        live_path=LIVE_PATH,
    )


def nginx(program: str, *, folder: Path, port: int, provider_port: int) -> Subject:
    """Writes the configuration into `folder` and says how to start."""
    config = folder / "nginx.conf"
    user = getpass.getuser() if os.geteuid() == 0 else None
    config.write_text(config_text(folder=folder, port=port, provider_port=provider_port, user=user))
    return Subject(
        name="nginx",
        command=(program, "-p", str(folder), "-e", str(folder / "nginx-error.log"), "-c", str(config)),
        port=port,
        log=folder / "nginx.log",
    )

"""Takes a server's place with a certificate of its own: python3 impostor.py PORT WHOSE DIRECTORY

Of each client it writes into the file `heard` whether that one has said a word after the handshake
(`trusted`), or has gone away (`refused`). As PostgreSQL (WHOSE is 5432) it first agrees to speak TLS.
"""

import socket
import ssl
import sys
import threading

PORT, WHOSE, DIRECTORY = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
POSTGRESQL, REQUEST_BYTES = 5432, 8


def serve(client):
    """One client, to its first word or its end."""
    client.settimeout(10)
    try:
        if WHOSE == POSTGRESQL:
            client.recv(REQUEST_BYTES)
            client.sendall(b"S")
        with context.wrap_socket(client, server_side=True) as tls:
            told = "trusted" if tls.recv(1) else "refused"
    except OSError:
        told = "refused"
    with open(f"{DIRECTORY}/heard", "a") as heard:  # noqa: PTH123
        heard.write(f"{told}\n")


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{DIRECTORY}/certificate", f"{DIRECTORY}/key")
server = socket.create_server(("0.0.0.0", PORT))
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

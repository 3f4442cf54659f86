#!/usr/bin/env python3
"""kvserver.py PORT: a small key-value store on 127.0.0.1."""
import socket
import sys

store = {}


def answer(line):
    words = line.strip().split(" ")
    command = words[0].upper()
    if command == "SET":
        store[words[1]] = words[2]
        return "OK"
    if command == "GET":
        return "VALUE " + store[words[1]] if words[1] in store else "NONE"
    if command == "DEL":
        del store[words[1]]
        return "OK"
    if command == "COUNT":
        return "COUNT %d" % len(store)
    if command == "QUIT":
        return "BYE"
    return "ERR"


def main():
    server = socket.socket()
    server.bind(("127.0.0.1", int(sys.argv[1])))
    server.listen(1)
    while True:
        client, _ = server.accept()
        while True:
            data = client.recv(1024).decode()
            if not data:
                break
            reply = answer(data)
            client.send((reply + "\n").encode())
            if reply == "BYE":
                break
        client.close()


if __name__ == "__main__":
    main()

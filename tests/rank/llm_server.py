"""
A server that runs the local model, in a process of its own: what Ollama, vLLM and a reranker look like from outside.

    python llm_server.py          prints its port, serves until its input closes

``POST /mode`` makes it misbehave; ``GET /seen`` tells what arrived.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

MODEL = "SmolLM2-135M-Instruct"
app = FastAPI()
state: dict[str, Any] = {"mode": "model", "seen": [], "loaded": None, "turn": threading.Lock()}
DRIP = b'{"choices": [{"message": {"content": "[1] > [2]"}}]}' + b" " * 2000
"""A hundred seconds of it."""


@app.post("/mode")
async def mode(request: Request) -> Response:
    state["mode"] = (await request.json())["mode"]
    state["seen"].clear()
    return Response()


@app.get("/seen")
async def seen() -> Response:
    return JSONResponse(state["seen"])


@app.post("/{path:path}")
async def ask(request: Request, path: str) -> Response:  # noqa: PLR0911  one answer each of many ways to fail
    body = await request.json()
    state["seen"].append({"path": path, "body": body, "headers": dict(request.headers)})
    kind = state["mode"]
    if kind == "stall":
        await asyncio.sleep(600)
    if kind == "drip":
        return StreamingResponse(dripped(), media_type="application/json")
    if kind == "huge":
        return Response(b'{"choices": ["' + b"x" * 20_000_000, media_type="application/json")
    if kind == "error":
        return Response("Traceback (most recent call last):\n  secret", status_code=500)
    if kind == "bytes":
        return Response(os.urandom(2_000), media_type="application/json")
    if kind == "form":
        return JSONResponse({"choices": [{"message": None}], "results": [{"index": "one"}], "usage": 7})
    if kind == "prose":
        return JSONResponse({"choices": [{"message": {"content": "I would rather not, but No. 99 is nice."}}]})
    if kind == "redirect":
        return Response(status_code=307, headers={"location": "http://127.0.0.1:9/steal"})
    return JSONResponse(await asyncio.to_thread(answered, path, body))


async def dripped() -> AsyncIterator[bytes]:
    for byte in DRIP:
        yield bytes([byte])
        await asyncio.sleep(0.05)


def answered(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What the model says, in the form of the route."""
    import torch

    with state["turn"], torch.inference_mode():
        if state["loaded"] is None:
            from tailwise.nets.language import open_backbone

            torch.set_num_threads(1)
            state["loaded"] = open_backbone(MODEL, causal=True)
        if path.endswith("chat/completions"):
            return chat(body)
        if path.endswith("completions"):
            told = [echoed(prompt) for prompt in body["prompt"]]
            return {"choices": [{"index": n, "text": "", "logprobs": one} for n, one in enumerate(told)]}
        heads = [body["query"] + "\n"] * len(body["documents"])
        chances = [echoed(head + text) for head, text in zip(heads, body["documents"], strict=True)]
        scores = [mean_after(one, len(heads[0])) for one in chances]
        results = [{"index": n, "relevance_score": score} for n, score in enumerate(scores)]
        return {"results": sorted(results, key=lambda result: -result["relevance_score"])}


def chat(body: dict[str, Any]) -> dict[str, Any]:
    import torch

    model, tokenizer = state["loaded"]
    text = tokenizer.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    usage = {"prompt_tokens": ids.shape[1], "completion_tokens": 1}
    if body.get("logprobs"):
        chances = torch.log_softmax(model(input_ids=ids).logits[0, -1], -1)
        best = chances.topk(body["top_logprobs"])
        top = [
            {"token": tokenizer.decode([int(token)]), "logprob": float(value)}
            for value, token in zip(best.values, best.indices, strict=True)
        ]
        spoken = {"message": {"content": top[0]["token"]}, "logprobs": {"content": [{"top_logprobs": top}]}}
        return {"choices": [spoken], "usage": usage}
    made = model.generate(ids, max_new_tokens=min(body["max_tokens"], 24), do_sample=False, pad_token_id=2)
    spoken = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
    return {"choices": [{"message": {"content": spoken}}], "usage": usage}


def echoed(text: str) -> dict[str, Any]:
    """The tokens of a text with where they begin and how likely each is after those before it."""
    import torch

    model, tokenizer = state["loaded"]
    read = tokenizer(text, return_offsets_mapping=True, return_tensors="pt", add_special_tokens=False)
    ids = read["input_ids"]
    chances = torch.log_softmax(model(input_ids=ids).logits[0, :-1], -1).gather(-1, ids[0, 1:, None])[:, 0]
    starts = [int(start) for start, _ in read["offset_mapping"][0]]
    return {"text_offset": starts, "token_logprobs": [None, *map(float, chances)]}


def mean_after(told: dict[str, Any], start: int) -> float:
    pairs = zip(told["text_offset"], told["token_logprobs"], strict=True)
    own = [value for offset, value in pairs if offset >= start and value is not None]
    return sum(own) / len(own)


def main() -> None:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(512)
    print(listening.getsockname()[1], flush=True)  # noqa: T201  for who started it
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()  # when its parent is gone
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])


if __name__ == "__main__":
    main()

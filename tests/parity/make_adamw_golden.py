#!/usr/bin/env python3
"""Several steps of torch.optim.AdamW with clip_grad_norm_ and a LambdaLR schedule: `make_adamw_golden.py > adamw/cases.json`.

Each case has three parameters: a matrix of the tower (learning rate times 0.1), a matrix of the language model and a norm of the
language model, which is decayed in one case only. The schedules are those of imagent, whose first update has the rate of step 1
(the first update under the schedules of transformers has that of step 0, which is 0 in a warm-up). Made with torch 2.15.
"""
import json
import math

import torch

STEPS = 8


def schedule(kind, warmup, total, final):
    def rate(done):
        step = done + 1
        if step <= warmup:
            return step / warmup
        if kind == "constant":
            return 1.0
        part = min(1.0, (step - warmup) / (total - warmup))
        left = 0.5 * (1 + math.cos(math.pi * part)) if kind == "cosine" else 1 - part
        return final + (1 - final) * left
    return rate


def case(name, seed, lr, beta2, decay, clip, kind, warmup, total, final, decay_all, scale):
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g)
    parameters = {"visual": draw(3, 4), "language": draw(4, 3), "norm": 1 + 0.1 * draw(5)}
    tensors = {k: torch.nn.Parameter(v.clone()) for k, v in parameters.items()}
    groups = [
        {"params": [tensors["visual"]], "lr": 0.1 * lr, "weight_decay": decay},
        {"params": [tensors["language"]], "lr": lr, "weight_decay": decay},
        {"params": [tensors["norm"]], "lr": lr, "weight_decay": decay if decay_all else 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, beta2), eps=1e-8)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule(kind, warmup, total, final))
    gradients, norms, after = [], [], []
    for step in range(STEPS):
        grads = {k: scale * (1 + step % 3) * draw(*p.shape) for k, p in tensors.items()}
        for k, p in tensors.items():
            p.grad = grads[k].clone()
        norm = torch.nn.utils.clip_grad_norm_(tensors.values(), clip if clip > 0 else math.inf)
        optimizer.step()
        scheduler.step()
        flat = lambda d: {k: v.detach().flatten().tolist() for k, v in d.items()}
        gradients.append(flat(grads))
        norms.append(norm.item())
        after.append(flat(tensors))
    settings = {"learning_rate": lr, "beta1": 0.9, "beta2": beta2, "weight_decay": decay, "decay_all": decay_all, "clip_norm": clip,
                "warmup_steps": warmup, "decay": kind, "total_steps": total, "final_fraction": final, "rates": {"vision": 0.1}}
    start = {k: v.flatten().tolist() for k, v in parameters.items()}
    return {"name": name, "settings": settings, "start": start, "gradients": gradients, "norms": norms, "after": after}


CASES = [
    case("constant, clipped", 0, 1e-2, 0.999, 0.0, 1.0, "constant", 0, 0, 0.0, False, 1.0),
    case("cosine with warm-up and decay, clipped", 1, 3e-2, 0.95, 0.1, 1.0, "cosine", 3, 8, 0.1, False, 0.5),
    case("linear with warm-up, everything decayed, unclipped", 2, 1e-2, 0.95, 0.5, 0.0, "linear", 2, 7, 0.0, True, 2.0),
    case("gradients that are rarely clipped", 3, 1e-1, 0.999, 0.01, 1.0, "constant", 4, 0, 0.0, False, 0.1),
]
print(json.dumps(CASES))

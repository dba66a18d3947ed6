from __future__ import annotations

import pytest
import torch
from torch import nn

from moka.schema import caffe_pb2, parse_text
from moka.solver import blocks
from moka.solver.choose import rule_class
from moka.solver.learnable import Learnable


@pytest.mark.parametrize("text", ['type: "Nesterov" momentum: 0.9', 'type: "AdaDelta"'])
def test_parts_that_fit_a_cache_change_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tensors go together, large ones in parts, of any layout."""
    p = parse_text(text, caffe_pb2.SolverParameter)
    results = []
    for block in (7, 10**6):
        monkeypatch.setattr(blocks, "_BLOCK", block)
        torch.manual_seed(0)
        values = [torch.randn(s) for s in ((3,), (2, 3), (5, 4), (4, 3, 2, 2), (4, 3, 2, 2), ())]
        grads = [torch.randn_like(v) for v in values]
        values[3] = values[3].contiguous(memory_format=torch.channels_last)
        grads[3] = grads[3].contiguous(memory_format=torch.channels_last)
        grads[4] = grads[4].contiguous(memory_format=torch.channels_last)  # another layout
        params = [Learnable(nn.Parameter(v), 1.0, 1.0) for v in values]
        rule = rule_class(p)(params, p)
        for t in range(3):
            for param, grad in zip(params, grads, strict=True):
                param.parameter.grad = grad.clone()
            rule.apply(t, 0.1, 0.01)
        results.append([*(q.parameter.detach() for q in params), *rule.history()])
    for mine, whole in zip(*results, strict=True):
        torch.testing.assert_close(mine, whole, rtol=1e-6, atol=1e-7)  # a kernel's last numbers

"""Collaborative models and their frozen tables, against PyTorch Geometric and cases computed by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sella_rec.collab.models import LightGCN, MatrixFactorization, create_model, load_model
from sella_rec.collab.tables import CollabTables, pool_history
from sella_rec.config import CollabConfig, load_config
from sella_rec.data.dataset import Split


def make_split(user, item, label=None, history=None, timestamp=None):
    n = len(user)
    return Split(
        user=np.array(user, dtype=np.int64),
        item=np.array(item, dtype=np.int64),
        label=np.array([1] * n if label is None else label, dtype=np.float32),
        timestamp=np.arange(n) if timestamp is None else np.array(timestamp),
        history=np.zeros((n, 1), dtype=np.int64) if history is None else np.array(history, dtype=np.int64),
        warm=np.ones(n, dtype=bool),
    )


def random_likes(users=30, items=40, seed=0):
    """Distinct likes [2, E], 1-based; some users and items have none."""
    draw = np.random.default_rng(seed).random((users - 3, items - 5)) < 0.15
    return torch.from_numpy(np.stack(np.nonzero(draw)) + 1)


def random_model(kind, dim=8):
    torch.manual_seed(0)
    model = MatrixFactorization(30, 40, dim) if kind == "mf" else LightGCN(30, 40, dim, likes=random_likes(), layers=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def hand_tables():
    """Users 1 (in train), 2 (not); items 1, 2, 3 (not in train); k = 2."""
    return CollabTables(
        user_vectors=torch.tensor([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]]),
        item_vectors=torch.tensor([[0.0, 0.0], [3.0, 1.0], [1.0, -1.0], [0.0, 0.0]]),
        user_bias=torch.tensor([0.0, 0.5, 0.0]),
        item_bias=torch.tensor([0.0, 0.1, 0.2, 0.0]),
        global_bias=torch.tensor(-0.25),
        user_in_train=torch.tensor([False, True, False]),
        fold_in_scale=torch.tensor(0.5),
    )


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_lightgcn_agrees_with_pytorch_geometric(layers):
    from torch_geometric.nn import LightGCN as Oracle

    likes, users = random_likes(), 31
    model = LightGCN(30, 40, 16, likes=likes, layers=layers)
    oracle = Oracle(users + 41, 16, layers)
    weights = torch.randn(users + 41, 16)
    with torch.no_grad():
        oracle.embedding.weight.copy_(weights)
        model.user.copy_(weights[:users])
        model.item.copy_(weights[users:])
    edges = torch.stack([likes[0], likes[1] + users])
    expected = oracle.get_embedding(torch.cat([edges, edges.flip(0)], dim=1))
    got = torch.cat(model.vectors())
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)

    cotangent = torch.randn_like(expected)
    expected.backward(cotangent)
    got.backward(cotangent)
    gradient = torch.cat([model.user.grad, model.item.grad])
    torch.testing.assert_close(gradient, oracle.embedding.weight.grad, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["mf", "lightgcn"])
def test_forward_is_product_and_biases(kind):
    model = random_model(kind)
    user, item = model.vectors()
    expected = user[3] @ item[5] + model.user_bias[3, 0] + model.item_bias[5, 0] + model.global_bias
    torch.testing.assert_close(model(torch.tensor([3]), torch.tensor([5]))[0], expected)


@pytest.mark.parametrize("kind", ["mf", "lightgcn"])
def test_models_and_tables_round_trip_bit_for_bit(kind, tmp_path):
    model = random_model(kind)
    model.save(tmp_path / kind)
    again = load_model(tmp_path / kind)
    assert type(again) is type(model)
    assert again.settings == model.settings
    for one, other in zip(model.vectors(), again.vectors(), strict=True):
        assert torch.equal(one, other)

    tables = model.tables(make_split([1, 2], [1, 2], history=[[3, 4], [5, 0]]))
    tables.save(tmp_path / "tables")
    for name, tensor in CollabTables.load(tmp_path / "tables").state_dict().items():
        assert torch.equal(tensor, tables.state_dict()[name]), name


def test_an_unknown_kind_is_an_error(tmp_path):
    random_model("mf").save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"kind": "svd"}))
    with pytest.raises(ValueError, match="svd"):
        load_model(tmp_path)


def test_known_users_come_from_the_table_and_others_from_their_history():
    tables = hand_tables()
    user = torch.tensor([1, 2, 2, 0, 2])
    history = torch.tensor([[1, 2], [1, 2], [1, 0], [2, 0], [0, 0]])
    expected = [
        [1.0, 2.0],
        [1.0, 0.0],  # half of (3 + 1, 1 - 1) / 2
        [1.5, 0.5],
        [0.5, -0.5],
        [0.0, 0.0],
    ]
    torch.testing.assert_close(tables.user_vectors_for(user, history), torch.tensor(expected))


def test_score_by_hand_and_an_unseen_item_scores_by_biases_alone():
    scores = hand_tables().score(torch.tensor([1, 2, 1]), torch.tensor([1, 2, 3]), torch.tensor([[2], [1], [1]]))
    # 1*3 + 2*1 + .5 + .1 - .25; folded (1.5, .5) . (1, -1) + .2 - .25; .5 - .25
    torch.testing.assert_close(scores, torch.tensor([5.35, 0.95, 0.25]))


def test_score_split_is_score():
    split = make_split([1, 2, 1], [1, 2, 3], history=[[2], [1], [1]])
    np.testing.assert_allclose(hand_tables().score_split(split), [5.35, 0.95, 0.25], rtol=1e-6)


def test_stand_in_tables_are_used_and_receive_gradients():
    tables = hand_tables()
    users, items = (t.clone().requires_grad_() for t in (tables.user_vectors, tables.item_vectors))
    tables.user_vectors_for(torch.tensor([1, 2]), torch.tensor([[1], [1]]), users, items).sum().backward()
    assert users.grad[1].tolist() == [1.0, 1.0]
    assert users.grad[2].tolist() == [0.0, 0.0]
    assert items.grad[1].tolist() == [0.5, 0.5]


def test_fold_in_scale_is_least_squares_on_newest_histories():
    model = random_model("mf")
    train = make_split([1, 1, 2], [1, 2, 3], history=[[5, 6], [7, 0], [8, 9]], timestamp=[20, 10, 5])
    user, item = (t.detach().numpy() for t in model.vectors())
    pooled = np.stack([item[[5, 6]].mean(0), item[[8, 9]].mean(0)])
    expected = np.linalg.lstsq(pooled.reshape(-1, 1), user[[1, 2]].reshape(-1), rcond=None)[0][0]
    assert model.tables(train).fold_in_scale.item() == pytest.approx(expected, rel=1e-4)


def test_fold_in_scale_without_any_history_is_finite():
    assert random_model("mf").tables(make_split([1], [1])).fold_in_scale.item() == 0.0


def test_pool_history_of_nothing_is_zero():
    assert pool_history(torch.zeros(2, 3, dtype=torch.int64), torch.randn(4, 5)).abs().sum() == 0


@pytest.mark.parametrize("kind", ["mf", "lightgcn"])
def test_users_and_items_unseen_in_train_have_zero_rows(kind):
    data = SimpleNamespace(n_users=4, n_items=5, train=make_split([1, 2, 2], [1, 3, 3], label=[1, 1, 1]))
    model = create_model(kind, CollabConfig(dim=6), data)
    tables = model.tables(data.train)
    assert tables.user_vectors.abs().sum(1).bool().tolist() == [False, True, True, False, False]
    assert tables.item_vectors.abs().sum(1).bool().tolist() == [False, True, False, True, False, False]
    assert tables.user_in_train.tolist() == [False, True, True, False, False]


def test_create_model_follows_the_configuration():
    data = SimpleNamespace(n_users=4, n_items=5, train=make_split([1, 2, 2], [1, 3, 3], label=[1, 0, 1]))
    config = load_config(None, ["collab.dim=6", "collab.lightgcn.layers=3", "collab.lightgcn.dropout=0.5"]).collab
    model = create_model("lightgcn", config, data)
    assert (model.layers, model.dropout.p, model.user.shape) == (3, 0.5, (5, 6))
    assert model.likes.tolist() == [[1, 2], [1, 3]]

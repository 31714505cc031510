"""mnist.h5 down to the HDF5 types, seen by h5py: the legacy Keras layout."""

import json

import h5py
import numpy as np
from h5py import h5a, h5t

import common

LAYERS = ["conv2d", "max_pooling2d", "conv2d_1", "max_pooling2d_1", "flatten", "dense", "dense_1"]
SHAPES = {"conv2d": ((3, 3, 1, 32), (32,)), "conv2d_1": ((3, 3, 32, 64), (64,)),
          "dense": ((1600, 128), (128,)), "dense_1": ((128, 10), (10,))}
WEIGHT_KEYS = {"activation", "use_bias", "kernel_initializer", "bias_initializer",
               "kernel_regularizer", "bias_regularizer", "activity_regularizer",
               "kernel_constraint", "bias_constraint"}
KEYS = {
    "InputLayer": {"batch_input_shape", "dtype", "sparse", "name"},
    "Conv2D": {"name", "trainable", "dtype", "filters", "kernel_size", "strides", "padding",
               "data_format", "dilation_rate"} | WEIGHT_KEYS,
    "MaxPooling2D": {"name", "trainable", "dtype", "pool_size", "padding", "strides",
                     "data_format"},
    "Flatten": {"name", "trainable", "dtype", "data_format"},
    "Dropout": {"name", "trainable", "dtype", "rate", "noise_shape", "seed"},
    "Dense": {"name", "trainable", "dtype", "units"} | WEIGHT_KEYS,
}


class Layout(common.Case):
    def setUp(self):
        super().setUp()
        self.train("--epochs", 0, "--out", "mnist.h5", "--seed", 3)
        self.file = h5py.File(self.dir / "mnist.h5", "r")
        self.addCleanup(self.file.close)

    def assert_fixed(self, owner, name, size=None):
        kind = h5a.open(owner.id, name.encode()).get_type()
        self.assertIsInstance(kind, h5t.TypeStringID, name)
        self.assertFalse(kind.is_variable_str(), name)
        self.assertEqual(kind.get_strpad(), h5t.STR_NULLPAD, name)
        self.assertEqual(kind.get_cset(), h5t.CSET_ASCII, name)
        if size:
            self.assertEqual(kind.get_size(), size, name)

    def assert_list(self, owner, name, items):
        self.assertEqual([item.decode() for item in owner.attrs[name]], items)
        self.assert_fixed(owner, name, max(map(len, items)))

    def test_old_file_format(self):
        self.assertEqual(self.file.id.get_create_plist().get_version()[0], 0)

    def test_root(self):
        self.assertEqual(set(self.file), {"model_weights", "cuda_mnist_state"})
        self.assertEqual(set(self.file.attrs), {"model_config", "training_config", "keras_version",
                                                "backend", "cuda_mnist_format",
                                                "cuda_mnist_sha256"})
        for name in self.file.attrs:
            self.assert_fixed(self.file, name, len(self.file.attrs[name]))
            self.assertEqual(self.file.attrs.get_id(name).shape, ())
        self.assertEqual(self.file.attrs["keras_version"], b"2.15.0")
        self.assertEqual(self.file.attrs["backend"], b"tensorflow")

    def test_model_config(self):
        config = json.loads(self.file.attrs["model_config"])
        self.assertEqual(config["class_name"], "Sequential")
        self.assertEqual(set(config["config"]), {"name", "layers"})
        layers = config["config"]["layers"]
        self.assertEqual([layer["class_name"] for layer in layers],
                         ["InputLayer", "Conv2D", "MaxPooling2D", "Conv2D", "MaxPooling2D",
                          "Flatten", "Dense", "Dense"])
        for layer in layers:
            self.assertEqual(set(layer), {"class_name", "config"})
            self.assertEqual(set(layer["config"]), KEYS[layer["class_name"]])
        self.assertEqual(layers[0]["config"]["batch_input_shape"], [None, 28, 28, 1])
        self.assertEqual([layer["config"]["name"] for layer in layers[1:]], LAYERS)
        self.assertEqual(layers[-1]["config"]["activation"], "softmax")

    def test_training_config(self):
        config = json.loads(self.file.attrs["training_config"])
        self.assertEqual(set(config), {"loss", "metrics", "weighted_metrics", "loss_weights",
                                       "sample_weight_mode", "optimizer_config"})
        self.assertEqual(config["loss"], "categorical_crossentropy")
        self.assertEqual(config["metrics"], ["accuracy"])
        self.assertEqual(config["optimizer_config"],
                         {"class_name": "Adam",
                          "config": {"name": "Adam", "learning_rate": 0.001, "beta_1": 0.9,
                                     "beta_2": 0.999, "epsilon": 1e-07, "amsgrad": False}})

    def test_weights(self):
        root = self.file["model_weights"]
        self.assert_list(root, "layer_names", LAYERS)
        self.assertEqual(set(root), set(LAYERS) | {"top_level_model_weights"})
        for name in ("keras_version", "backend"):
            self.assert_fixed(root, name, len(self.file.attrs[name]))
            self.assertEqual(root.attrs[name], self.file.attrs[name])
        for layer in set(root) - set(SHAPES):
            empty = root[layer].attrs["weight_names"]
            self.assertEqual((empty.shape, empty.dtype), ((0,), np.float64))
        for layer, shapes in SHAPES.items():
            names = [f"{layer}/kernel:0", f"{layer}/bias:0"]
            self.assert_list(root[layer], "weight_names", names)
            for name, shape in zip(names, shapes):
                self.assert_tensor(root[layer][name], shape)

    def assert_tensor(self, dataset, shape):
        self.assertEqual(dataset.shape, shape)
        self.assertEqual(dataset.dtype, np.dtype("<f4"))
        self.assertIsNone(dataset.chunks)
        self.assertIsNone(dataset.compression)

    def test_state(self):
        state = self.file["cuda_mnist_state"]
        self.assertEqual(set(state), {"iteration", "learning_rate", "m", "v"})
        self.assertEqual((state["iteration"].shape, state["iteration"].dtype), ((), np.int64))
        self.assertEqual((state["learning_rate"].shape, state["learning_rate"].dtype),
                         ((), np.float32))
        self.assertEqual(state["iteration"][()], 0)
        self.assertEqual(state["learning_rate"][()], np.float32(0.001))
        self.assertEqual(state.attrs["seed"], 3)
        for moment in "mv":
            self.assertEqual(set(state[moment]), set(SHAPES))
            for layer, shapes in SHAPES.items():
                for name, shape in zip(("kernel", "bias"), shapes):
                    self.assert_tensor(state[moment][layer][name], shape)

    def test_initial_weights(self):
        """Glorot uniform: within its bounds, near its variance, no bias."""
        for layer, (kernel_shape, _) in SHAPES.items():
            weights = self.file["model_weights"][layer][layer]
            kernel = weights["kernel:0"][()]
            field = np.prod(kernel_shape[:-2], dtype=int)
            limit = np.sqrt(6 / (field * (kernel_shape[-2] + kernel_shape[-1])))
            self.assertTrue((np.abs(kernel) <= limit * (1 + 1e-6)).all(), layer)
            deviation = 5 / np.sqrt(kernel.size)  # five times that of the estimates below
            self.assertTrue(abs(kernel.mean()) <= deviation * limit, layer)
            self.assertTrue(abs(kernel.var() * 3 / limit**2 - 1) <= deviation, layer)
            self.assertFalse(weights["bias:0"][()].any(), layer)

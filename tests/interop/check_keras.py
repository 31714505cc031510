"""Model files in both directions: ours in Keras, Keras' in ours."""

import json

import h5py
import keras
import numpy as np
from keras import layers

import common


def compiled(*chain):
    model = keras.Sequential([keras.Input((28, 28, 1)), *chain])
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    return model


class OurFileInKeras(common.Case):
    def setUp(self):
        super().setUp()
        self.train("--epochs", 1, "--limit", 512, "--shuffle", "off", "--out", "mnist.h5")
        self.model = keras.models.load_model(self.dir / "mnist.h5")

    def test_predictions(self):
        count = 20
        files = []
        for i, image in enumerate(self.data.test_images[:count]):
            files.append(self.dir / f"{i}.pgm")
            files[-1].write_bytes(b"P5 28 28 255\n" + image.tobytes())
        ours = common.run("predict", "--model", "mnist.h5", *files, cwd=self.dir)[0]
        keras_says = self.model.predict(self.data.test(count)[0], verbose=0)
        self.assertEqual(len(ours), count)
        for row, expected in zip(ours, keras_says):
            self.assert_tensors_close(row["probabilities"], expected, 1e-5, row["file"])
            self.assertEqual(row["digit"], expected.argmax())

    def test_evaluation(self):
        inputs, targets = self.data.test(1000)
        loss, accuracy = self.model.evaluate(inputs, targets, verbose=0)
        ours = self.evaluate("mnist.h5", 1000)
        self.assertEqual(ours["samples"], 1000)
        self.assert_close(ours["loss"], loss, 1e-5, "loss")
        self.assert_close(ours["accuracy"], accuracy, 1e-6, "accuracy")

    def test_training_goes_on(self):
        inputs, targets = self.data.train(1024)
        before = self.model.evaluate(inputs, targets, verbose=0)[0]
        self.model.fit(inputs, targets, batch_size=128, epochs=2, verbose=0)
        self.assertLess(self.model.evaluate(inputs, targets, verbose=0)[0], before)
        self.assertEqual(float(self.model.optimizer.learning_rate.numpy()), np.float32(0.001))

    def test_optimizer_state(self):
        """Keras, given Adam's state as the README says, trains as the resumed program does."""
        optimizer = self.model.optimizer
        optimizer.build(self.model.trainable_variables)
        with h5py.File(self.dir / "mnist.h5") as file:
            state = file["cuda_mnist_state"]
            values = [state["iteration"][()], state["learning_rate"][()]]
            for layer in self.model.layers:
                for name in ("kernel", "bias"):
                    if f"m/{layer.name}/{name}" in state:
                        values += [state[f"{moment}/{layer.name}/{name}"][()] for moment in "mv"]
        self.assertEqual(values[0], 4)
        self.assertEqual(len(optimizer.variables), len(values))
        for variable, value in zip(optimizer.variables, values):
            variable.assign(value)
        inputs, targets = self.data.train(512)
        self.model.fit(inputs, targets, batch_size=128, epochs=1, shuffle=False, verbose=0)
        self.train("--resume", "mnist.h5", "--epochs", 2, "--out", "resumed.h5")
        resumed = keras.models.load_model(self.dir / "resumed.h5")
        # Rounding differs and four updates amplify it; without the moments, 1e-2 and more.
        for ours, theirs in zip(resumed.weights, self.model.weights):
            self.assert_tensors_close(ours.numpy(), theirs.numpy(), 1e-3, theirs.path)

    def test_round_trip(self):
        self.model.save(self.dir / "again.h5")
        first, again = self.evaluate("mnist.h5", 500), self.evaluate("again.h5", 500)
        for key in ("loss", "accuracy", "confusion"):
            self.assertEqual(first[key], again[key])

    def test_every_option_of_arch(self):
        arch = ("conv:6x5x3:same:stride2x1,pool:3x2:same:stride1,dropout:0.25,conv:4x3:nobias,"
                "pool:2,flatten,dense:16,dropout:0.5,dense:10:nobias")
        self.train("--epochs", 1, "--limit", 256, "--arch", arch, "--out", "other.h5")
        model = keras.models.load_model(self.dir / "other.h5")
        loss, accuracy = model.evaluate(*self.data.test(500), verbose=0)
        ours = self.evaluate("other.h5", 500)
        self.assert_close(ours["loss"], loss, 1e-5, "loss")
        self.assert_close(ours["accuracy"], accuracy, 1e-6, "accuracy")


class KerasFileInOurs(common.Case):
    def check(self, *chain):
        model = compiled(*chain)
        inputs, targets = self.data.train(1024)
        model.fit(inputs, targets, batch_size=64, epochs=1, verbose=0)
        model.save(self.dir / "keras.h5")
        loss, accuracy = model.evaluate(*self.data.test(500), verbose=0)
        ours = self.evaluate("keras.h5", 500)
        self.assert_close(ours["loss"], loss, 1e-4, "loss")
        self.assertTrue(abs(ours["accuracy"] - accuracy) <= 1.01 / 500)  # one near-tie

    def test_same_padding_and_strides(self):
        self.check(layers.Conv2D(8, 3, padding="same", strides=2, activation="relu"),
                   layers.Conv2D(8, (4, 3), padding="same", strides=(2, 3), activation="relu"),
                   layers.Flatten(), layers.Dense(10, activation="softmax"))

    def test_overlapping_and_padded_pooling(self):
        self.check(layers.Conv2D(6, 3, activation="relu"),
                   layers.MaxPooling2D(3, strides=2, padding="same"),
                   layers.MaxPooling2D((2, 3), strides=1),
                   layers.Flatten(), layers.Dense(10, activation="softmax"))

    def test_dropout(self):
        self.check(layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D(),
                   layers.Dropout(0.25), layers.Flatten(), layers.Dense(32, activation="relu"),
                   layers.Dropout(0.5), layers.Dense(10, activation="softmax"))

    def test_no_bias(self):
        self.check(layers.Conv2D(8, 5, use_bias=False, activation="relu"), layers.MaxPooling2D(4),
                   layers.Flatten(), layers.Dense(10, use_bias=False, activation="softmax"))

    def test_activation_layers(self):
        self.check(layers.Conv2D(8, 3), layers.ReLU(), layers.MaxPooling2D(),
                   layers.Conv2D(8, 3), layers.MaxPooling2D(), layers.Activation("relu"),
                   layers.Flatten(), layers.Dense(10), layers.Softmax())

    def test_large_filters_and_linear_layers(self):
        self.check(layers.Conv2D(5, 11, activation="relu"), layers.Conv2D(7, (9, 2)),
                   layers.Flatten(), layers.Dense(20), layers.Dense(10, activation="softmax"))

    def test_dense_layers_alone(self):
        self.check(layers.Flatten(), layers.Dense(64, activation="relu"),
                   layers.Dense(32, activation="relu"), layers.Dense(10, activation="softmax"))

    def test_report(self):
        """A file without a training state, and Keras' log beside it."""
        model = compiled(layers.Flatten(), layers.Dense(10, name="<b>", activation="softmax"))
        model.fit(*self.data.train(1024), validation_data=self.data.test(500), epochs=3, verbose=0,
                  callbacks=[keras.callbacks.CSVLogger(self.dir / "keras.csv")])
        model.save(self.dir / "keras.h5")
        found = common.run("report", "--model", "keras.h5", "--log", "keras.csv",
                           *self.data.options, "--limit", 500, "--svg", "figures", cwd=self.dir)[0]
        self.assertEqual(found["epochs"], 3)
        self.assertEqual(found["remarks"], [])
        self.assertEqual(len(found["figures"]), 5)
        loss, _ = model.evaluate(*self.data.test(500), verbose=0)
        self.assert_close(found["loss"], loss, 1e-4, "loss")
        page = (self.dir / "report.html").read_text()
        self.assertIn("<h1>keras.h5</h1>", page)
        self.assertIn("&lt;b&gt; (Dense)", page)
        self.assertIn(">best: ", page)
        for unknown in ("<dt>Seed</dt>", "<dt>Trained</dt>"):
            self.assertNotIn(unknown, page)

    def test_input_without_channels(self):
        model = keras.Sequential([keras.Input((28, 28)), layers.Flatten(),
                                  layers.Dense(10, activation="softmax")])
        model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
        model.save(self.dir / "keras.h5")
        inputs, targets = self.data.test(300)
        loss, _ = model.evaluate(inputs[..., 0], targets, verbose=0)
        self.assert_close(self.evaluate("keras.h5", 300)["loss"], loss, 1e-4, "loss")

    def test_logits(self):
        """A last layer without softmax is taken to give logits."""
        model = compiled(layers.Flatten(), layers.Dense(10))
        model.save(self.dir / "keras.h5")
        inputs, targets = self.data.test(300)
        logits = model.predict(inputs, verbose=0).astype(np.float64)
        loss = np.mean(np.log(np.exp(logits).sum(1)) - (logits * targets).sum(1))
        self.assert_close(self.evaluate("keras.h5", 300)["loss"], loss, 1e-4, "loss")

    def refusal(self, name):
        try:
            self.evaluate(name, 10)
        except AssertionError as error:
            return str(error)
        self.fail(f"{name} was accepted")

    def test_refusals(self):
        model = compiled(layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten(),
                         layers.Dense(10, activation="softmax"))
        model.save(self.dir / "layer.h5")
        message = self.refusal("layer.h5")
        self.assertIn(" 65: ", message)
        self.assertIn("BatchNormalization", message)
        model.save(self.dir / "new.keras")
        self.assertIn(".keras", self.refusal("new.keras"))
        model.save_weights(self.dir / "only.weights.h5")
        self.assertIn("weights without the model", self.refusal("only.weights.h5"))
        inputs = keras.Input((28, 28, 1))
        outputs = layers.Dense(10, activation="softmax")(layers.Flatten()(inputs))
        keras.Model(inputs, outputs).save(self.dir / "functional.h5")
        self.assertIn("Functional", self.refusal("functional.h5"))

    def test_changed_file_is_noticed(self):
        self.train("--epochs", 0, "--out", "mnist.h5")
        with h5py.File(self.dir / "mnist.h5", "r+") as file:
            file["model_weights/dense/dense/bias:0"][3] = 0.5
        self.assertIn("checksum", self.refusal("mnist.h5"))

    def test_added_attribute_is_harmless(self):
        self.train("--epochs", 0, "--out", "mnist.h5")
        first = self.evaluate("mnist.h5", 100)
        with h5py.File(self.dir / "mnist.h5", "r+") as file:
            file.attrs["note"] = json.dumps({"kept": True})
        self.assertEqual(self.evaluate("mnist.h5", 100)["loss"], first["loss"])

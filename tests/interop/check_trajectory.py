"""The same run in Keras and in the program: equal initial weights, no shuffling."""

import csv

import keras
from keras import layers

import common


def recipe():
    model = keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Flatten(), layers.Dense(128, activation="relu"),
        layers.Dense(10, activation="softmax")])
    model.compile(loss="categorical_crossentropy", optimizer=keras.optimizers.Adam(0.001),
                  metrics=["accuracy"])
    return model


class Trajectory(common.Case):
    def setUp(self):
        super().setUp()
        self.data = common.whole_data()
        keras.utils.set_random_seed(7)
        self.model = recipe()
        self.model.save(self.dir / "initial.h5")

    def ours(self, *arguments):
        return self.train("--init", "initial.h5", "--shuffle", "off", "--batch-size", 128,
                          "--out", "ours.h5", "--log", "ours.csv", *arguments)

    def test_first_step(self):
        inputs, targets = self.data.train(128)
        self.model.fit(inputs, targets, batch_size=128, epochs=1, shuffle=False, verbose=0)
        self.ours("--limit", 128, "--epochs", 1)
        ours = keras.models.load_model(self.dir / "ours.h5")
        # Adam's first update is g / (|g| + 3e-6): it magnifies the rounding of gradients near that
        # size, of which the patterns have some.
        relative = 1e-5 if self.data.is_mnist else 1e-4
        for found, expected in zip(ours.weights, self.model.weights):
            self.assert_tensors_close(found.numpy(), expected.numpy(), relative, expected.path)

    def test_two_epochs(self):
        inputs, targets = self.data.train(5000)
        history = self.model.fit(inputs, targets, batch_size=128, epochs=2, shuffle=False,
                                 verbose=0, validation_data=self.data.test(None)).history
        self.ours("--limit", 5000, "--epochs", 2)
        with open(self.dir / "ours.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([row["epoch"] for row in rows], ["1", "2"])
        for epoch, row in enumerate(rows):
            for key in ("loss", "accuracy", "val_loss", "val_accuracy"):
                print(f"epoch {epoch + 1} {key}: {row[key]}, Keras {history[key][epoch]:.17g}")
        for epoch, row in enumerate(rows):
            for key in ("loss", "accuracy", "val_loss", "val_accuracy"):
                self.assert_close(float(row[key]), history[key][epoch], 0.005, f"{key} {epoch + 1}")

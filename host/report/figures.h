// The figures of a report.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "host/data/image_set.h"
#include "host/model/model.h"
#include "host/report/evaluation.h"
#include "host/report/svg.h"
#include "host/training/training_log.h"

namespace mnist {

// Curves of training and validation over the epochs, which ascend; at least one. A missing epoch,
// or a value that is not finite, is a gap. The best validation is marked.
Figure loss_chart(std::span<const EpochResult> epochs);
Figure accuracy_chart(std::span<const EpochResult> epochs);

// The epoch with the highest accuracy, or the least loss, of validation: the first of equals; null
// where no value is finite.
const EpochResult* most_accurate(std::span<const EpochResult> epochs);
const EpochResult* least_loss(std::span<const EpochResult> epochs);

// Counts, shaded by the share of the row. Mistakes are shaded by the logarithm, since they are few.
Figure confusion_chart(const Confusion& confusion);

// An image of the set as ink on paper, `side` pixels wide and high.
Figure digit_picture(const uint8_t* image, double side, const std::string& id,
                     const std::string& title);
// Mistakes side by side, each with truth, answer and probability below it.
Figure mistakes_chart(const ImageSet& set, std::span<const Mistake> mistakes);
std::string mistake_words(const Mistake& mistake);  // "4, read as 9"
std::string percent_text(double share);             // "98.76 %"; only 1 is 100 %

// What one unit of the first layer with weights has learned.
struct WeightTile {
  int rows = 0, columns = 0;
  std::vector<float> values;  // [rows,columns]
};
// A convolution's filters or a dense layer's units, each channel of its input apart: as many as
// have at most `cells` values together, but one at least.
struct FirstLayer {
  std::string name;  // of the layer
  bool filters = true;
  int64_t tiles_in_all = 0;
  std::vector<WeightTile> tiles;
};
FirstLayer first_layer(const Model& model, std::span<const float> weights, size_t cells = 20'000);
// Two colours for positive and negative weights; the strength is the weight's share of the greatest
// one, whatever its sign.
Figure weights_chart(const FirstLayer& layer);

}  // namespace mnist

// Loss and accuracy over the epochs.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "host/report/figures.h"
#include "host/report/ticks.h"
#include "host/text.h"

namespace mnist {
namespace {

constexpr double kWidth = 400, kHeight = 268;
constexpr double kLeft = 50, kRight = 386, kTop = 62, kBottom = 228;
constexpr size_t kMostDots = 24;  // epochs that are marked one by one

struct Curve {
  const char* name;
  double EpochResult::*value;
  Stroke stroke;
};

// What sets the two charts apart.
struct Quantity {
  const char* id;
  const char* title;
  Curve train, validation;
  bool percent;
  const EpochResult* (*best)(std::span<const EpochResult>);
};

constexpr Stroke kTrain{Paint::kFirst, 1.75, 1, "5 4"};
constexpr Stroke kValidation{Paint::kSecond, 2.25};

constexpr Quantity kLoss{"loss",
                         "Loss",
                         {"training", &EpochResult::loss, kTrain},
                         {"validation", &EpochResult::val_loss, kValidation},
                         false,
                         least_loss};
constexpr Quantity kAccuracy{"accuracy",
                             "Accuracy",
                             {"training", &EpochResult::accuracy, kTrain},
                             {"validation", &EpochResult::val_accuracy, kValidation},
                             true,
                             most_accurate};

// What can be drawn: not NaN, infinite, or beyond all reason.
bool drawable(double value) {
  return std::fabs(value) < 1e100;
}

std::string words_of(double value, bool percent) {
  if (!std::isfinite(value)) return "no number";
  return percent ? percent_text(value) : fmt::format("{:#.3g}", value);
}

class Chart {
 public:
  Chart(const Quantity& quantity, std::span<const EpochResult> epochs)
      : quantity_(quantity), epochs_(epochs), y_(value_ticks()) {}

  Figure draw() {
    canvas_.text(0, 16, quantity_.title, 15, Paint::kText, Anchor::kStart, true);
    if (const EpochResult* best = quantity_.best(epochs_)) {
      canvas_.text(kRight, 16,
                   fmt::format("best: {} after epoch {}",
                               words_of(best->*quantity_.validation.value, quantity_.percent),
                               grouped(best->epoch)),
                   12, Paint::kText, Anchor::kEnd);
    }
    draw_key(kLeft, quantity_.train);
    draw_key(kLeft + 92, quantity_.validation);
    draw_values();
    draw_epochs();
    if (none_) {
      canvas_.text((kLeft + kRight) / 2, (kTop + kBottom) / 2, "no number to draw", 13,
                   Paint::kMuted, Anchor::kMiddle);
    }
    draw_best();
    draw_curve(quantity_.train);
    draw_curve(quantity_.validation);
    return {.id = quantity_.id,
            .title = fmt::format("{} over the epochs", quantity_.title),
            .description = description(),
            .width = kWidth,
            .height = kHeight,
            .body = canvas_.take()};
  }

 private:
  double x(double epoch) const {
    const double first = double(epochs_.front().epoch), last = double(epochs_.back().epoch);
    const double share = last > first ? (epoch - first) / (last - first) : 0.5;
    return kLeft + 8 + (kRight - kLeft - 16) * share;
  }
  double y(double value) const {
    return kBottom - (kBottom - kTop) * (value - y_.first()) / (y_.last() - y_.first());
  }

  // From zero for a loss; accuracies are too close to 1 for that.
  Ticks value_ticks() {
    double least = quantity_.percent ? 1 : 0, greatest = 0;
    none_ = true;
    for (const EpochResult& epoch : epochs_)
      for (const Curve* curve : {&quantity_.train, &quantity_.validation}) {
        const double value = epoch.*curve->value;
        if (!drawable(value)) continue;
        least = std::min(least, value);
        greatest = none_ ? value : std::max(greatest, value);
        none_ = false;
      }
    if (none_) return round_ticks(0, 1, 5);
    if (!quantity_.percent) greatest = std::max(greatest, 0.0);
    const double size = std::max({1.0, std::fabs(least), std::fabs(greatest)});
    if (greatest - least < 1e-12 * size) {
      // All values are the same. There is no accuracy above 1.
      if (quantity_.percent && greatest > 0.5)
        least -= 0.01 * size;
      else
        greatest += (quantity_.percent ? 0.01 : 1) * size;
    }
    return round_ticks(least, greatest, 5);
  }

  void draw_key(double left, const Curve& curve) {
    canvas_.line(fmt::format("M{} 38h24", coordinate(left)), curve.stroke);
    canvas_.text(left + 30, 42, curve.name);
  }

  void draw_values() {
    for (const double value : y_.values) {
      const double at = y(value);
      canvas_.line(fmt::format("M{} {}H{}", coordinate(kLeft), coordinate(at), coordinate(kRight)),
                   {Paint::kGrid});
      const std::string text = quantity_.percent ? tick_text(100 * value, 100 * y_.step) + " %"
                                                 : tick_text(value, y_.step);
      canvas_.text(kLeft - 6, at + 4, text, 12, Paint::kMuted, Anchor::kEnd);
    }
  }

  void draw_epochs() {
    const auto first = double(epochs_.front().epoch), last = double(epochs_.back().epoch);
    const auto mark = [&](double epoch) {
      canvas_.line(fmt::format("M{} {}v5", coordinate(x(epoch)), coordinate(kBottom)),
                   {Paint::kMuted});
      canvas_.text(x(epoch), kBottom + 18, grouped(int64_t(epoch)), 12, Paint::kMuted,
                   Anchor::kMiddle);
    };
    canvas_.text((kLeft + kRight) / 2, kBottom + 36, "epoch", 12, Paint::kMuted, Anchor::kMiddle);
    if (last <= first) return mark(first);
    const Ticks ticks = round_ticks(first, last, 6);
    const double step = std::max(1.0, ticks.step);
    double next = std::ceil(first / step) * step;
    if (next - first > 0.6 * step) mark(first);
    for (; next <= last; next += step) mark(next);
  }

  void draw_best() {
    const EpochResult* best = quantity_.best(epochs_);
    if (best == nullptr) return;
    const double at = x(double(best->epoch)), height = y(best->*quantity_.validation.value);
    canvas_.line(fmt::format("M{} {}V{}", coordinate(at), coordinate(height), coordinate(kBottom)),
                 {Paint::kMuted, 1, 1, "2 3"});
    canvas_.dot(at, height, 6.5, Paint::kPaper, {Paint::kSecond, 2},
                fmt::format("best: epoch {}", grouped(best->epoch)));
  }

  void draw_curve(const Curve& curve) {
    std::string path;
    const EpochResult* before = nullptr;
    for (const EpochResult& epoch : epochs_) {
      const double value = epoch.*curve.value;
      if (!drawable(value)) continue;
      const bool goes_on = before != nullptr && before->epoch + 1 == epoch.epoch;
      path += fmt::format("{}{} {}", goes_on ? "L" : "M", coordinate(x(double(epoch.epoch))),
                          coordinate(y(value)));
      // A point between two gaps: a line of no length has round ends.
      if (!goes_on) path += "h0";
      before = &epoch;
    }
    if (!path.empty()) canvas_.line(path, curve.stroke);
    if (epochs_.size() > kMostDots) return;
    for (const EpochResult& epoch : epochs_)
      if (drawable(epoch.*curve.value)) {
        canvas_.dot(x(double(epoch.epoch)), y(epoch.*curve.value), 2.75, curve.stroke.paint,
                    {Paint::kPaper, 1},
                    fmt::format("epoch {}, {}: {}", grouped(epoch.epoch), curve.name,
                                words_of(epoch.*curve.value, quantity_.percent)));
      }
  }

  std::string description() const {
    const EpochResult &first = epochs_.front(), &last = epochs_.back();
    std::string text = fmt::format("Epochs {} to {}.", first.epoch, last.epoch);
    for (const Curve* curve : {&quantity_.train, &quantity_.validation})
      text += fmt::format(" In {}, from {} to {}.", curve->name,
                          words_of(first.*curve->value, quantity_.percent),
                          words_of(last.*curve->value, quantity_.percent));
    if (const EpochResult* best = quantity_.best(epochs_))
      text +=
          fmt::format(" The best validation is {}, after epoch {}.",
                      words_of(best->*quantity_.validation.value, quantity_.percent), best->epoch);
    return text;
  }

  const Quantity& quantity_;
  const std::span<const EpochResult> epochs_;
  bool none_ = false;  // there is no value to draw
  const Ticks y_;
  Canvas canvas_;
};

template <typename Better>
const EpochResult* find_best(std::span<const EpochResult> epochs, double EpochResult::*value,
                             const Better& better) {
  const EpochResult* best = nullptr;
  for (const EpochResult& epoch : epochs)
    if (drawable(epoch.*value) && (best == nullptr || better(epoch.*value, best->*value)))
      best = &epoch;
  return best;
}

}  // namespace

const EpochResult* most_accurate(std::span<const EpochResult> epochs) {
  return find_best(epochs, &EpochResult::val_accuracy, std::greater<>());
}

const EpochResult* least_loss(std::span<const EpochResult> epochs) {
  return find_best(epochs, &EpochResult::val_loss, std::less<>());
}

Figure loss_chart(std::span<const EpochResult> epochs) {
  return Chart(kLoss, epochs).draw();
}

Figure accuracy_chart(std::span<const EpochResult> epochs) {
  return Chart(kAccuracy, epochs).draw();
}

}  // namespace mnist

// The confusion matrix, shaded.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "host/report/figures.h"
#include "host/text.h"

namespace mnist {
namespace {

constexpr int kClasses = kMnistClasses;
constexpr double kWidth = 400, kHeight = 452;
constexpr double kLeft = 50, kTop = 64, kCell = 34;
// No darker: the text on it must stay readable.
constexpr double kLeast = 0.13, kMost = 0.5;

// Of a mistake's cell, by its share of the row: from one in a thousand to all of it.
double mistake_opacity(double share) {
  return kLeast + (kMost - kLeast) * std::clamp(1 + std::log10(share) / 3, 0.0, 1.0);
}

double right_opacity(double share) {
  return kLeast + (kMost - kLeast) * share;
}

void draw_key(Canvas& canvas) {
  const double top = kTop + kClasses * kCell + 16;
  double left = kLeft;
  canvas.box(left, top, 14, 14, Paint::kFirst, right_opacity(1));
  canvas.frame(left, top, 14, 14, {Paint::kFirst});
  canvas.text(left + 20, top + 12, "right");
  left += 66;
  for (const auto& [share, text] :
       {std::pair{0.001, "0.1 %"}, {0.01, "1 %"}, {0.1, "10 % of the row wrong"}}) {
    canvas.box(left, top, 14, 14, Paint::kSecond, mistake_opacity(share));
    canvas.text(left + 20, top + 12, text);
    left += share < 0.01 ? 68 : 56;
  }
}

std::string description(const Confusion& confusion) {
  int64_t samples = 0, right = 0, most = 0;
  size_t truth = 0, answer = 0;
  for (size_t t = 0; t < kClasses; ++t)
    for (size_t a = 0; a < kClasses; ++a) {
      const int64_t count = confusion[t][a];
      samples += count;
      if (t == a) {
        right += count;
      } else if (count > most) {
        most = count;
        truth = t;
        answer = a;
      }
    }
  std::string text =
      fmt::format("Of {} images, {} are read rightly.", grouped(samples), grouped(right));
  if (most > 0)
    text += fmt::format(" The most frequent mistake: {} read as {}, {} times.", truth, answer,
                        grouped(most));
  return text;
}

}  // namespace

Figure confusion_chart(const Confusion& confusion) {
  Canvas canvas;
  canvas.text(0, 16, "Confusion matrix", 15, Paint::kText, Anchor::kStart, true);
  const double middle = kCell * kClasses / 2;
  canvas.text(kLeft + middle, 40, "answer", 12, Paint::kMuted, Anchor::kMiddle);
  canvas.text(0, kTop + middle + 4, "truth", 12, Paint::kMuted);
  for (size_t truth = 0; truth < kClasses; ++truth) {
    const std::array<int64_t, kClasses>& row = confusion[truth];
    int64_t support = 0;
    for (const int64_t count : row) support += count;
    const double top = kTop + kCell * double(truth), base = top + kCell / 2 + 4.5;
    canvas.text(kLeft - 10, base, fmt::format("{}", truth), 13, Paint::kText, Anchor::kEnd, true);
    canvas.text(kLeft + kCell * (double(truth) + 0.5), kTop - 8, fmt::format("{}", truth), 13,
                Paint::kText, Anchor::kMiddle, true);
    for (size_t answer = 0; answer < kClasses; ++answer) {
      if (row[answer] == 0) continue;
      const double left = kLeft + kCell * double(answer);
      const double share = double(row[answer]) / double(support);
      const bool right = truth == answer;
      const std::string count = fmt::format("{}", row[answer]);
      canvas.box(left, top, kCell, kCell, right ? Paint::kFirst : Paint::kSecond,
                 right ? right_opacity(share) : mistake_opacity(share),
                 fmt::format("{} read as {}: {} of {} ({:.1f} %)", truth, answer,
                             grouped(row[answer]), grouped(support), 100 * share));
      canvas.text(left + kCell / 2, base, count, std::min(12.0, 44 / double(count.size())),
                  Paint::kText, Anchor::kMiddle, right);
    }
  }
  std::string grid;
  for (int i = 0; i <= kClasses; ++i)
    grid +=
        fmt::format("M{0} {2}h{4}M{1} {3}v{4}", coordinate(kLeft), coordinate(kLeft + i * kCell),
                    coordinate(kTop + i * kCell), coordinate(kTop), coordinate(kClasses * kCell));
  canvas.line(grid, {Paint::kGrid}, true);
  for (int i = 0; i < kClasses; ++i)
    canvas.frame(kLeft + i * kCell, kTop + i * kCell, kCell, kCell, {Paint::kFirst, 1.5});
  draw_key(canvas);
  return {.id = "confusion",
          .title = "Confusion matrix: how often each class got which answer",
          .description = description(confusion),
          .width = kWidth,
          .height = kHeight,
          .body = canvas.take()};
}

}  // namespace mnist

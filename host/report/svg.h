// The figure writer. A figure is SVG text that stands alone in a file, or in a page whose light and
// dark colours it follows: each element carries its colour as an attribute, for any viewer, and as
// a class, by which the page's style overrides the attribute.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace mnist {

// What a colour is for.
enum class Paint { kNone, kPaper, kText, kMuted, kGrid, kFirst, kSecond };

struct Colour {
  Paint paint;
  const char* name;   // in classes: f-NAME fills, s-NAME strokes
  const char* light;  // "#rrggbb", on white
  const char* dark;   // on the dark paper
};
// All but kNone. The text's colours have a contrast of at least 4.5 to the paper's, the lines' of
// at least 3; blue and orange stay different for those who cannot tell red from green.
std::span<const Colour> colours();

// CSS: the classes, in the colours of the reader's choice, and in the light ones on print.
std::string colour_rules();

struct Figure {
  std::string id;           // unique in a page; the name of its file
  std::string title;        // what it shows
  std::string description;  // the same in words, for who cannot see it
  double width = 0, height = 0;
  std::string body;  // by Canvas
};

std::string svg_file(const Figure& figure);  // a file of its own, on white, with a margin
std::string svg_inline(const Figure& figure);

enum class Anchor { kStart, kMiddle, kEnd };

struct Stroke {
  Paint paint = Paint::kText;
  double width = 1;
  double opacity = 1;
  const char* dashes = "";  // of stroke-dasharray
};

// Collects elements. Coordinates are in pixels from the upper left corner, at the figure's own
// size.
class Canvas {
 public:
  void text(double x, double y, std::string_view content, double size = 12,
            Paint paint = Paint::kText, Anchor anchor = Anchor::kStart, bool bold = false);
  // `hint` is shown where the pointer rests on it.
  void box(double x, double y, double width, double height, Paint fill, double opacity = 1,
           std::string_view hint = {});
  void frame(double x, double y, double width, double height, const Stroke& stroke);
  // A path of these commands. `crisp`: edges on whole pixels, for cells that touch.
  void line(std::string_view path, const Stroke& stroke, bool crisp = false);
  void dot(double x, double y, double radius, Paint fill, const Stroke& stroke,
           std::string_view hint = {});
  // What is drawn from here to the end of the group is moved by (x, y), then enlarged.
  void begin_group(double x, double y, double scale = 1);
  void end_group();

  std::string take() { return std::move(body_); }

 private:
  std::string body_;
};

// Two decimals at most, as short as possible: "12", "0.5".
std::string coordinate(double value);

}  // namespace mnist

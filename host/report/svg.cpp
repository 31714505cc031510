#include "host/report/svg.h"

#include <fmt/format.h>

#include "host/report/markup.h"

namespace mnist {
namespace {

constexpr Colour kColours[] = {
    {Paint::kPaper, "paper", "#ffffff", "#14181d"},
    {Paint::kText, "text", "#1b1f24", "#e7eaee"},
    {Paint::kMuted, "muted", "#59636e", "#9da7b3"},
    {Paint::kGrid, "grid", "#d8dde3", "#343c46"},
    {Paint::kFirst, "first", "#1f6fb4", "#6cb2f5"},
    {Paint::kSecond, "second", "#b75703", "#f2a14e"},
};

constexpr const char* kFont =
    "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif";

const Colour& colour(Paint paint) {
  for (const Colour& known : kColours)
    if (known.paint == paint) return known;
  return kColours[0];
}

std::string filled(Paint paint, double opacity) {
  if (paint == Paint::kNone) return " fill=\"none\"";
  const Colour& found = colour(paint);
  std::string text = fmt::format(" class=\"f-{}\" fill=\"{}\"", found.name, found.light);
  if (opacity < 1) text += fmt::format(" fill-opacity=\"{}\"", coordinate(opacity));
  return text;
}

std::string stroked(const Stroke& stroke) {
  if (stroke.paint == Paint::kNone) return "";
  const Colour& found = colour(stroke.paint);
  std::string text = fmt::format(" stroke=\"{}\"", found.light);
  if (stroke.width != 1) text += fmt::format(" stroke-width=\"{}\"", coordinate(stroke.width));
  if (stroke.opacity < 1) text += fmt::format(" stroke-opacity=\"{}\"", coordinate(stroke.opacity));
  if (*stroke.dashes != '\0') text += fmt::format(" stroke-dasharray=\"{}\"", stroke.dashes);
  return text;
}

std::string with_hint(std::string_view element, std::string_view hint) {
  if (hint.empty()) return "/>\n";
  return fmt::format("><title>{}</title></{}>\n", escaped(hint), element);
}

// `margin`: white space around the figure.
std::string document(const Figure& figure, double margin, std::string_view attributes,
                     std::string_view ground) {
  const std::string width = coordinate(figure.width + 2 * margin);
  const std::string height = coordinate(figure.height + 2 * margin);
  std::string text = fmt::format(
      "<svg{0} width=\"{1}\" height=\"{2}\" viewBox=\"{3} {3} {1} {2}\" role=\"img\" "
      "aria-labelledby=\"{4}-title",
      attributes, width, height, coordinate(-margin), figure.id);
  if (!figure.description.empty()) text += fmt::format(" {}-words", figure.id);
  text += fmt::format("\" font-family=\"{}\" font-size=\"12\">\n", kFont);
  text += fmt::format("<title id=\"{}-title\">{}</title>\n", figure.id, escaped(figure.title));
  if (!figure.description.empty())
    text +=
        fmt::format("<desc id=\"{}-words\">{}</desc>\n", figure.id, escaped(figure.description));
  text += ground;
  return text + figure.body + "</svg>\n";
}

}  // namespace

std::span<const Colour> colours() {
  return kColours;
}

std::string colour_rules() {
  const auto values = [](const char* Colour::*which) {
    std::string text;
    for (const Colour& c : kColours) text += fmt::format("--{}:{};", c.name, c.*which);
    return text;
  };
  std::string rules = fmt::format(
      ":root{{color-scheme:light dark;{}}}\n"
      "@media screen and (prefers-color-scheme:dark){{:root{{{}}}}}\n"
      "@media print{{:root{{color-scheme:light}}}}\n",
      values(&Colour::light), values(&Colour::dark));
  for (const Colour& c : kColours)
    rules += fmt::format(".f-{0}{{fill:var(--{0})}}.s-{0}{{stroke:var(--{0})}}\n", c.name);
  return rules;
}

std::string svg_file(const Figure& figure) {
  constexpr double kMargin = 16;
  Canvas ground;
  ground.box(-kMargin, -kMargin, figure.width + 2 * kMargin, figure.height + 2 * kMargin,
             Paint::kPaper);
  return document(figure, kMargin, " xmlns=\"http://www.w3.org/2000/svg\"", ground.take());
}

std::string svg_inline(const Figure& figure) {
  return document(figure, 0, "", "");
}

void Canvas::text(double x, double y, std::string_view content, double size, Paint paint,
                  Anchor anchor, bool bold) {
  body_ += fmt::format("<text x=\"{}\" y=\"{}\"{}", coordinate(x), coordinate(y), filled(paint, 1));
  if (size != 12) body_ += fmt::format(" font-size=\"{}\"", coordinate(size));
  if (anchor != Anchor::kStart)
    body_ += anchor == Anchor::kMiddle ? " text-anchor=\"middle\"" : " text-anchor=\"end\"";
  if (bold) body_ += " font-weight=\"bold\"";
  body_ += fmt::format(">{}</text>\n", escaped(content));
}

void Canvas::box(double x, double y, double width, double height, Paint fill, double opacity,
                 std::string_view hint) {
  body_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{}{}", coordinate(x),
                       coordinate(y), coordinate(width), coordinate(height), filled(fill, opacity),
                       with_hint("rect", hint));
}

void Canvas::frame(double x, double y, double width, double height, const Stroke& stroke) {
  body_ += fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"s-{}\" fill=\"none\"{}/>\n",
      coordinate(x), coordinate(y), coordinate(width), coordinate(height),
      colour(stroke.paint).name, stroked(stroke));
}

void Canvas::line(std::string_view path, const Stroke& stroke, bool crisp) {
  body_ += fmt::format("<path d=\"{}\" class=\"s-{}\" fill=\"none\"{}{}/>\n", path,
                       colour(stroke.paint).name, stroked(stroke),
                       crisp ? " shape-rendering=\"crispEdges\""
                             : " stroke-linejoin=\"round\" stroke-linecap=\"round\"");
}

void Canvas::dot(double x, double y, double radius, Paint fill, const Stroke& stroke,
                 std::string_view hint) {
  body_ += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\" class=\"f-{} s-{}\" fill=\"{}\"{}{}",
                       coordinate(x), coordinate(y), coordinate(radius), colour(fill).name,
                       colour(stroke.paint).name, colour(fill).light, stroked(stroke),
                       with_hint("circle", hint));
}

void Canvas::begin_group(double x, double y, double scale) {
  body_ += fmt::format("<g transform=\"translate({} {})", coordinate(x), coordinate(y));
  if (scale != 1) body_ += fmt::format(" scale({})", coordinate(scale));
  body_ += "\">\n";
}

void Canvas::end_group() {
  body_ += "</g>\n";
}

std::string coordinate(double value) {
  std::string text = fmt::format("{:.2f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

}  // namespace mnist
